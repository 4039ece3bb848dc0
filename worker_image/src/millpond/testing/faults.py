"""What can go wrong between a worker or client and the broker, done at a named step.

Owns the rules and when they apply: a rule names a party (a worker's name, or `client`), a step of the protocol and
which occurrence of it; each applies once. Steps: `submit`, `pull`, `claim`, `commit`, `schedule`, `dead letter`, `ack`,
`hand back` (see docs/protocol.md); `*` is any of them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from millpond.testing.broker.link import Party
from millpond.testing.broker.wire import Packet
from millpond.testing.server import MemoryServer

STEPS = ("submit", "pull", "claim", "commit", "schedule", "dead letter", "ack", "hand back")


class Fault(StrEnum):
    """What happens to a packet."""

    LOSE_REQUEST = "lose request"
    LOSE_ANSWER = "lose answer"
    DELAY = "delay"
    TWICE = "twice"
    CUT_BEFORE = "cut before"
    CUT_AFTER = "cut after"
    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"


@dataclass(eq=False)
class Rule:
    """One fault to come. `nth` counts down to its packet; `happened` says that it did."""

    party: str
    step: str
    fault: Fault
    nth: int = 1
    seconds: float = 0.0
    happened: bool = False

    def hits(self, step: str) -> bool:
        if self.happened or self.step not in ("*", step):
            return False
        self.nth -= 1
        self.happened = self.nth <= 0
        return self.happened


class Faults:
    """The faults of one pool. `crash` is how a worker dies."""

    def __init__(self, server: MemoryServer, crash: Callable[[str], None]) -> None:
        self._server, self._crash = server, crash
        self._rules: list[Rule] = []

    def lose_request(self, party: str, step: str, nth: int = 1) -> Rule:
        """The packet never arrives, and nobody says so."""
        return self._add(Rule(party, step, Fault.LOSE_REQUEST, nth))

    def lose_answer(self, party: str, step: str, nth: int = 1) -> Rule:
        """It is done, and the answer is lost."""
        return self._add(Rule(party, step, Fault.LOSE_ANSWER, nth))

    def delay(self, party: str, step: str, seconds: float, nth: int = 1) -> Rule:
        """It arrives later, after what the party sends meanwhile."""
        return self._add(Rule(party, step, Fault.DELAY, nth, seconds))

    def twice(self, party: str, step: str, nth: int = 1) -> Rule:
        """It arrives two times, as a sender that did not hear the answer would have it."""
        return self._add(Rule(party, step, Fault.TWICE, nth))

    def cut(self, party: str, step: str, nth: int = 1, *, after: bool = False) -> Rule:
        """The connections of the party end just before the step arrives, or right after it was done."""
        return self._add(Rule(party, step, Fault.CUT_AFTER if after else Fault.CUT_BEFORE, nth))

    def crash(self, worker: str, step: str, nth: int = 1, *, after: bool = False) -> Rule:
        """The worker dies just before the step, or right after it was done (and before it hears of it)."""
        return self._add(Rule(worker, step, Fault.CRASH_AFTER if after else Fault.CRASH_BEFORE, nth))

    def expire_leases(self, stream: str) -> None:
        """Every lease on a message of this stream is over now, whoever still works on it."""
        for consumer in self._server.broker.consumers(stream):
            consumer.expire_leases()

    def _add(self, rule: Rule) -> Rule:
        if rule.step != "*" and rule.step not in STEPS:
            raise ValueError(f"no step {rule.step!r}: there are {', '.join(STEPS)}, and * for any of them")
        self._rules.append(rule)
        party = self._server.party(rule.party)
        party.outgoing = lambda packet, send: self._pass(party, packet, send)
        return rule

    def _pass(self, party: Party, packet: Packet, send: Callable[[Packet], None]) -> None:
        step = step_of(packet)
        rule = next((one for one in self._rules if one.party == party.name and one.hits(step)), None)
        match rule.fault if rule else None:
            case None:
                send(packet)
            case Fault.LOSE_REQUEST:
                pass
            case Fault.LOSE_ANSWER:
                send(replace(packet, reply=""))
            case Fault.DELAY:
                assert rule is not None
                self._server.broker.after(rule.seconds, lambda: send(packet))
            case Fault.TWICE:
                send(packet)
                send(packet)
            case Fault.CUT_BEFORE | Fault.CUT_AFTER as fault:
                if fault is Fault.CUT_AFTER:
                    send(replace(packet, reply=""))
                self._server.cut(party.name)
            case Fault.CRASH_BEFORE | Fault.CRASH_AFTER as fault:
                if fault is Fault.CRASH_AFTER:
                    send(replace(packet, reply=""))
                self._crash(party.name)


def step_of(packet: Packet) -> str:
    """The protocol's step that this packet is, "" for none."""
    words = packet.subject.split(".")
    if packet.subject.startswith("$JS.ACK."):
        return "hand back" if packet.data.startswith(b"-NAK") else "" if packet.data.startswith(b"+WPI") else "ack"
    if packet.subject.startswith("$JS.API.CONSUMER.MSG.NEXT."):
        return "pull"
    if words[1:3] == ["events", "task"]:
        return "claim" if _state(packet.data) == "Running" else "commit"
    return {"tasks": "submit", "later": "schedule", "dead": "dead letter"}.get(words[1] if len(words) > 1 else "", "")


def _state(body: bytes) -> Any:
    try:
        return json.loads(body).get("state")
    except (ValueError, AttributeError):
        return None
