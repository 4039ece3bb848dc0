"""A namespace's trees of supervisors: what is asked of each pool after what happened, by OTP's machine. Pure.

Owns how the commands of `millpond_api.supervision` become orders to pools and to supervisors below, and what is told of
it; whom a restart takes along and when it is once too often is the machine's to say, in no line here. Orders are
levels, not events: whoever carries them out may die and look again, and a leader that takes over goes on from `freeze`.

A restart of a pool is a drained rollout: it serves until its new workers do. So being stopped for a restart is done at
once, being started again is when the rollout is complete; a pool is drained to zero and held when its supervisor ends,
and when it is Temporary and a sibling's restart takes it along (it never comes back, as in OTP).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from millpond_api.supervision import INFINITY, Command, End, Ended, Exit, Restart, Start, Stop, Strategy
from millpond_api.supervision import Supervisor as Machine
from millpond_api.supervision.records import is_running, reshape, revive
from millpond_api.v1alpha1.supervisor import (
    LAST_RESTARTS,
    SupervisorRestart,
    is_pool,
    name_in,
    pool_id,
    supervisor_id,
)

from millpond_operator.decisions.crashes import Crash
from millpond_operator.decisions.family import Declared, Family
from millpond_operator.decisions.orders import Ask, Cause, News, Node, Order, PoolView, renew, say_end

REMEMBERED = 256
"""Pods of each supervisor whose crashes are remembered as counted."""


@dataclass
class Trees:
    """All supervisors of a namespace. Each method takes `now`, epoch seconds; `news` gathers what is worth an Event."""

    nodes: dict[str, Node] = field(default_factory=dict)
    family: Family = field(default_factory=Family)
    news: list[News] = field(default_factory=list)

    # ---- what there is

    def declare(self, declared: Iterable[Declared], family: Family, now: int) -> list[str]:
        """Supervisors and children as they are written now; the pools that have a supervisor since, to be learnt."""
        found = {one.name: one for one in declared}
        self.family = family
        self.nodes = {name: node for name, node in self.nodes.items() if name in found and node.uid == found[name].uid}
        for name, one in found.items():
            if name not in self.nodes:
                flags = one.spec.to_flags()
                self.nodes[name] = Node(name, one.uid, Machine.make(flags), [], flags, reset=one.reset)
        new = [child for name, one in found.items() for child in self._reshape(self.nodes[name], one, now)]
        for name, one in found.items():
            self._settle(self.nodes[name], one, now)
        return [name_in(child) for child in new if is_pool(child)]

    def _reshape(self, node: Node, one: Declared, now: int) -> list[str]:
        """The children that are new."""
        node.flags = one.spec.to_flags()
        node.children = [child.to_child() for child in self.family.children[node.name]]
        names = {child.id for child in node.children}
        node.orders = {child: order for child, order in node.orders.items() if child in names}
        node.marked &= names
        here = [child for child in node.children if child.id in node.machine.children or child.id not in node.known]
        new = [child.id for child in here if child.id not in node.known]
        node.known = names
        self._tell(node, reshape(node.machine, node.flags, here, now), now)
        for child in new:
            # It was no child when it ended, so its end is news to its new parent.
            if not is_pool(child) and self.nodes[name_in(child)].machine.ended and not node.machine.ending:
                self._tell(node, node.machine.exited(child, Exit.SHUTDOWN, now), now)
        return new

    def _settle(self, node: Node, one: Declared, now: int) -> None:
        """What follows from a new place in the tree, and from a reset that was asked for."""
        parent = self._parent(node)
        if parent is None and node.machine.ended is End.STOPPED:
            self._begin(node, now)  # whoever stopped it stands above it no more
        if node.machine.ended:
            self._hold_rest(node, now)
        if one.reset == node.reset or (parent is not None and self._is_bound(parent, node)):
            return
        node.reset = one.reset
        if parent is not None:
            parent.known.discard(supervisor_id(node.name))
            revive(parent.machine, supervisor_id(node.name))
        self.news.append(News(node.name, "SupervisorReset", "it is started anew, as its reset annotation asks"))
        self._begin(node, now)

    def _is_bound(self, parent: Node, node: Node) -> bool:
        """Whether its parent is about to start or to stop it, or has stopped: then only the parent can start it."""
        named = {step.child for step in parent.machine.pending}
        return parent.machine.ending is not None or supervisor_id(node.name) in named

    # ---- what happened

    def crash(self, pool: str, crash: Crash, now: int) -> bool:
        """A worker of the pool ended badly; whether that is news. The same crash again changes nothing."""
        node = self._owner(pool)
        if node is None or not self.learn(pool, crash):
            return False
        self._hear(node, pool_id(pool), crash, now)
        return True

    def _hear(self, node: Node, child: str, crash: Crash, now: int) -> None:
        machine = node.machine
        spec = machine.children.get(child)
        if spec is None:
            return
        pending = next((step for step in machine.pending if step.child == child), None)
        order = node.orders.get(child, Order())
        if isinstance(pending, Start):
            # A worker from before the restart is one that is being stopped.
            if order.ask is not Ask.RESTART or crash.token == order.token:
                self._note(node, child, crash, now)
                self._tell(node, machine.start_failed(child, now), now)
        elif is_running(machine, child) and pending is None:
            self._note(node, child, crash, now)
            # Kubernetes starts the container again whatever is written here, so for a Temporary pool nothing ends,
            # unless that is what autoShutdown looks at.
            if spec.restart is not Restart.TEMPORARY or spec.significant:
                self._tell(node, machine.exited(child, Exit.ERROR, now), now)
                if child not in node.machine.children:
                    self._hold(node, child, now)  # it ended, and its supervisor may go on: it does not come back

    def learn(self, pool: str, crash: Crash) -> bool:
        """Remember the crash as counted; False when it is already."""
        node = self._owner(pool)
        if node is None or node.counted.get(crash.uid, 0) >= crash.number:
            return False
        node.counted.pop(crash.uid, None)
        node.counted[crash.uid] = crash.number
        while len(node.counted) > REMEMBERED:
            del node.counted[next(iter(node.counted))]
        return True

    def look(self, see: Callable[[str], PoolView], now: int) -> None:
        """Answer what was asked for and has become true."""
        for node in list(self.nodes.values()):
            for step in node.machine.pending:
                order = node.orders.get(step.child)
                if order is None or not is_pool(step.child):
                    continue
                view = see(name_in(step.child))
                if isinstance(step, Stop) and view.is_empty:
                    self._tell(node, node.machine.exited(step.child, Exit.SHUTDOWN, now), now)
                elif isinstance(step, Start) and view.has_started(order):
                    node.orders[step.child] = order.answered()
                    self._tell(node, node.machine.started(step.child, now), now)
                elif isinstance(step, Start) and (why := view.has_failed(order)):
                    node.marked.add(step.child)
                    self._note(node, step.child, Crash("", "", 0, "StartFailed", why), now)
                    self._tell(node, node.machine.start_failed(step.child, now), now)

    def orders(self) -> Iterator[tuple[str, Order]]:
        """What is asked of each pool that is asked anything."""
        for node in self.nodes.values():
            for child, order in node.orders.items():
                yield name_in(child), order

    # ---- commands

    def _tell(self, node: Node, commands: list[Command], now: int) -> None:
        """Carry out what a machine said, and what other machines say to that."""
        todo = deque([(node, commands)])
        while todo:
            one, said = todo.popleft()
            self._note_end(one, now)
            for command in said:
                todo.extend(self._carry_out(one, command, now))
            todo.extend(self._report(one, now))

    def _carry_out(self, node: Node, command: Command, now: int) -> list[tuple[Node, list[Command]]]:
        match command:
            case Start(child) if is_pool(child):
                return self._start_pool(node, child, now)
            case Start(child):
                below = self.nodes[name_in(child)]
                renew(below)
                return [(below, below.machine.begin(now))]
            case Stop(child, within):
                return self._stop(node, child, within, now)
            case Ended():
                return self._end(node, now)

    def _start_pool(self, node: Node, child: str, now: int) -> list[tuple[Node, list[Command]]]:
        order = node.orders.get(child, Order())
        within = node.machine.children[child].shutdown
        if node.machine.beginning or child in node.marked or order.ask is Ask.HOLD:
            node.marked.discard(child)
            node.number += 1
            token = f"{node.name}-{node.uid[:8]}-{node.number}"
            node.orders[child] = Order(Ask.RESTART, token, now, within)
        elif node.flags.strategy is Strategy.ONE_FOR_ONE:
            # Kubernetes starts its container again, and nobody waits for it.
            return [(node, node.machine.started(child, now))]
        else:
            node.orders[child] = Order(Ask.AWAIT, order.token, now)
        return []

    def _stop(self, node: Node, child: str, within: float, now: int) -> list[tuple[Node, list[Command]]]:
        for_good = node.machine.ending is not None or node.machine.children[child].restart is Restart.TEMPORARY
        if is_pool(child) and for_good:
            token = node.orders.get(child, Order()).token
            node.orders[child] = Order(Ask.HOLD, token, now, within, self._say_hold(node, child))
            return []
        if for_good:
            below = self.nodes[name_in(child)]
            if below.machine.ended is None:
                below.cause = node.cause or Cause(node.name, f"{child} ended, and a Temporary child never comes back")
                return [(below, below.machine.stop(now))]
        elif is_pool(child):
            node.marked.add(child)
        else:
            self._quiet(self.nodes[name_in(child)])
        return [(node, node.machine.exited(child, Exit.SHUTDOWN, now))]

    def _quiet(self, node: Node) -> None:
        """It is about to be started anew, and so are all below: until then nothing that ends there counts."""
        renew(node)
        node.quiet = True
        for child in node.children:
            if not is_pool(child.id):
                self._quiet(self.nodes[name_in(child.id)])

    def _begin(self, node: Node, now: int) -> None:
        renew(node)
        self._tell(node, node.machine.begin(now), now)

    # ---- what is said of it

    def _note_end(self, node: Node, now: int) -> None:
        """As soon as it begins to end: why, and its pools that crashed are held like those that are told to stop."""
        if node.machine.ending is None:
            return
        if not node.cause:
            node.cause = Cause(node.name, say_end(node))
            self.news.append(News(node.name, f"Supervisor{node.machine.ending}", node.cause.sentence, warning=True))
        self._hold_rest(node, now)

    def _hold_rest(self, node: Node, now: int) -> None:
        told = {step.child for step in node.machine.pending}
        for child in node.machine.children.values():
            if is_pool(child.id):
                running = is_running(node.machine, child.id) and not node.machine.ended
                if not running and child.id not in told:
                    self._hold(node, child.id, now)
            elif node.machine.ended and self.nodes[name_in(child.id)].machine.ending is None:
                below = self.nodes[name_in(child.id)]
                below.cause = node.cause
                self._tell(below, below.machine.stop(now), now)

    def _hold(self, node: Node, child: str, now: int) -> None:
        order = node.orders.get(child, Order())
        if order.ask is not Ask.HOLD:
            within = next((one.shutdown for one in node.children if one.id == child), INFINITY)
            node.orders[child] = Order(Ask.HOLD, order.token, now, within, self._say_hold(node, child))

    def _say_hold(self, node: Node, child: str) -> str:
        who, why = node.cause or Cause(node.name, f"{child} ended, and a Temporary child never comes back")
        return f"paused by supervisor {who}: {why}"

    def _end(self, node: Node, now: int) -> list[tuple[Node, list[Command]]]:
        """It is over: its parent hears of it; a root stays as it is until somebody resets it."""
        parent, machine = self._parent(node), node.machine
        why = node.cause.sentence if node.cause else ""
        if parent is None:
            if machine.ended is End.STOPPED:
                renew(node)
                return [(node, node.machine.begin(now))]
            text = f"everything below is paused until a reset (annotation millpond.dev/reset): {why}"
            self.news.append(News(node.name, "SupervisorDegraded", text, warning=True))
            return []
        child = supervisor_id(node.name)
        pending = next((step for step in parent.machine.pending if step.child == child), None)
        if isinstance(pending, Start):
            self._note(parent, child, Crash("", "", 0, str(machine.ended), why), now)
            return [(parent, parent.machine.start_failed(child, now))]
        if pending is None and is_running(parent.machine, child):
            self._note(parent, child, Crash("", "", 0, str(machine.ended), why), now)
        return [(parent, parent.machine.exited(child, Exit.SHUTDOWN, now))]

    def _report(self, node: Node, now: int) -> list[tuple[Node, list[Command]]]:
        """A supervisor has started when all of its children have (supervisor.erl: start_link returns after init)."""
        parent, machine, child = self._parent(node), node.machine, supervisor_id(node.name)
        if parent is None or machine.beginning or machine.ended or node.quiet:
            return []
        if any(isinstance(step, Start) and step.child == child for step in parent.machine.pending):
            return [(parent, parent.machine.started(child, now))]
        return []

    def _note(self, node: Node, child: str, crash: Crash, now: int) -> None:
        entry = SupervisorRestart(
            at=datetime.fromtimestamp(now, UTC),
            child=child,
            reason=crash.reason,
            message=crash.message[:512],
            worker=crash.worker,
            exit_code=crash.exit_code,
            tasks=list(crash.tasks),
        )
        node.history = [entry, *node.history][:LAST_RESTARTS]

    def _owner(self, pool: str) -> Node | None:
        return self.nodes.get(self.family.parents.get(pool_id(pool), ""))

    def _parent(self, node: Node) -> Node | None:
        return self.nodes.get(self.family.parents.get(supervisor_id(node.name), ""))
