"""What a supervisor knows of itself and asks of its pools, and how a pool answers: plain data and its JSON. Pure.

Owns the shapes between `supervising`, which decides, and the handler, which carries out: orders, what is seen of a
pool, and one supervisor's node with its way into the status and back.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from millpond_api.durations import format_duration
from millpond_api.supervision import INFINITY, Child, End, Flags
from millpond_api.supervision import Supervisor as Machine
from millpond_api.supervision.records import freeze, thaw
from millpond_api.v1alpha1.supervisor import SupervisorRestart


class Ask(StrEnum):
    """What is asked of a pool."""

    RUN = "Run"
    """Nothing: it follows its queue."""
    RESTART = "Restart"
    """New workers by a drained rollout; answered when they have taken over."""
    AWAIT = "Await"
    """It crashed and Kubernetes starts it again; answered when a worker is ready."""
    HOLD = "Hold"
    """Drained to zero, and nobody comes back until it is asked for something else."""


@dataclass(frozen=True)
class Order:
    """What is asked of a pool since when (epoch seconds). After `within` seconds workers that should go are killed."""

    ask: Ask = Ask.RUN
    token: str = ""
    """The last restart: the value of the pool's annotation."""
    since: int = 0
    within: float = INFINITY
    why: str = ""

    def answered(self) -> "Order":
        """The same pool, of which nothing is asked any more."""
        return Order(token=self.token)

    def is_late(self, now: int) -> bool:
        """Whether workers that should have gone by now are to be killed."""
        return self.ask in (Ask.RESTART, Ask.HOLD) and now >= self.since + self.within


@dataclass(frozen=True)
class PoolView:
    """A pool as it is seen: `wanted` workers, `ready` ones, `there` with a pod or asked for; the restart that its
    workers come from, how that goes, and since when (epoch seconds)."""

    wanted: int = 0
    ready: int = 0
    there: int = 0
    token: str = ""
    phase: str = "Complete"
    since: float = 0.0
    message: str = ""

    @property
    def is_empty(self) -> bool:
        return self.there == 0

    def has_started(self, order: Order) -> bool:
        """Whether what was asked is there. A pool that needs no workers is ready without any."""
        if order.ask is Ask.RESTART and (self.token != order.token or self.phase != "Complete"):
            return False
        return self.wanted == 0 or self.ready > 0

    def has_failed(self, order: Order) -> str:
        """Why the restart that was asked for won't be complete; empty while it may."""
        if order.ask is not Ask.RESTART or self.phase not in ("Stalled", "RolledBack") or self.since < order.since:
            return ""
        return f"the restart's rollout is {self.phase}: {self.message}"


@dataclass(frozen=True)
class News:
    """Something worth an Event on a supervisor."""

    supervisor: str
    reason: str
    message: str
    warning: bool = False


class Cause(NamedTuple):
    """Why something is paused: the supervisor that ended by itself, and its sentence."""

    supervisor: str
    sentence: str


@dataclass
class Node:
    """One supervisor: its machine, and what its pools were asked for."""

    name: str
    uid: str
    machine: Machine
    children: list[Child]
    """As they are written, those that ended for good too."""
    flags: Flags
    known: set[str] = field(default_factory=set)
    """Children that it had when it was last declared: one of them that the machine has no more ended for good."""
    orders: dict[str, Order] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    """Pools that a restart takes along: they are started with a new token."""
    counted: dict[str, int] = field(default_factory=dict)
    """By pod: the last crash that was counted."""
    number: int = 0
    """Restarts of pools that were asked for. Tokens are made of it: a leader that decides the same again, because the
    last one died before it wrote, asks for the same restart and not for another one."""
    reset: str = ""
    quiet: bool = False
    """It waits for its parent to start it anew."""
    cause: Cause | None = None
    """Once it ends."""
    history: list[SupervisorRestart] = field(default_factory=list)


def renew(node: Node) -> None:
    """Another machine, that remembers no restart, over all children as they are written."""
    node.machine = Machine.make(node.flags, node.children)
    node.cause, node.quiet, node.marked = None, False, set()


def say_end(node: Node) -> str:
    """Why the machine ends, in one sentence."""
    last = node.history[0] if node.history else None
    who = f"; the last was {last.child}{f' ({last.reason})' if last.reason else ''}" if last else ""
    if node.machine.ending is End.INTENSITY:
        count, period = len(node.machine.restarts), format_duration(node.flags.period)
        said = f"1 restart within {period} is" if count == 1 else f"{count} restarts within {period} are"
        return f"{said} more than intensity {node.flags.intensity}{who}"
    if node.machine.ending is End.SIGNIFICANT:
        return f"a significant child ended{who}"
    if node.machine.ending is End.START_FAILED:
        return f"a child could not be started again{who}"
    return "it was stopped"


def freeze_node(node: Node) -> dict[str, Any]:
    """What the status holds so that another process can go on."""
    return {
        "machine": freeze(node.machine),
        "known": sorted(node.known),
        "orders": {child: _freeze_order(order) for child, order in node.orders.items()},
        "marked": sorted(node.marked),
        "counted": dict(node.counted),
        "number": node.number,
        "reset": node.reset,
        "quiet": node.quiet,
        "cause": list(node.cause or ()),
    }


def thaw_node(
    name: str,
    uid: str,
    flags: Flags,
    children: Iterable[Child],
    memory: dict[str, Any],
    history: list[SupervisorRestart],
) -> Node:
    """The node that was frozen, with the spec as it is now."""
    written = list(children)
    cause = memory.get("cause")
    return Node(
        name,
        uid,
        thaw(flags, written, memory.get("machine", {})),
        written,
        flags,
        set(memory.get("known", ())),
        {child: _thaw_order(order) for child, order in memory.get("orders", {}).items()},
        set(memory.get("marked", ())),
        {pod: int(number) for pod, number in memory.get("counted", {}).items()},
        int(memory.get("number", 0)),
        str(memory.get("reset", "")),
        bool(memory.get("quiet", False)),
        Cause(*cause) if cause else None,
        history,
    )


def _freeze_order(order: Order) -> dict[str, Any]:
    plain = {"ask": str(order.ask), "token": order.token, "since": order.since, "why": order.why}
    return plain if order.within == INFINITY else plain | {"within": order.within}


def _thaw_order(record: dict[str, Any]) -> Order:
    known = Order(Ask(record.get("ask", Ask.RUN)), record.get("token", ""), int(record.get("since", 0)))
    return replace(known, within=float(record.get("within", INFINITY)), why=record.get("why", ""))
