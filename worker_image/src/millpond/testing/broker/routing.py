"""Core publish and subscribe: who hears a subject. Queue groups hear each message once, in turn."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from millpond.testing.broker.wire import Packet, is_literal, matches


@dataclass(eq=False)
class Interest:
    """One subscription at the broker; `limit` ends it after that many messages."""

    pattern: str
    take: Callable[[Packet], None]
    queue: str = ""
    limit: int = 0
    heard: int = 0


@dataclass
class Router:
    """The broker's subscriptions."""

    _literal: dict[str, list[Interest]] = field(default_factory=dict)
    _wild: list[Interest] = field(default_factory=list)
    _turns: "itertools.count[int]" = field(default_factory=itertools.count)

    def add(self, interest: Interest) -> None:
        if is_literal(interest.pattern):
            self._literal.setdefault(interest.pattern, []).append(interest)
        else:
            self._wild.append(interest)

    def remove(self, interest: Interest) -> None:
        line = self._literal.get(interest.pattern)
        if line and interest in line:
            line.remove(interest)
            if not line:
                del self._literal[interest.pattern]
        elif interest in self._wild:
            self._wild.remove(interest)

    def remove_all(self, interests: Iterable[Interest]) -> None:
        for interest in interests:
            self.remove(interest)

    def hears(self, subject: str) -> bool:
        """Whether anybody listens."""
        return subject in self._literal or any(matches(one.pattern, subject) for one in self._wild)

    def deliver(self, packet: Packet, to: str = "") -> bool:
        """Hand the packet to everybody who listens to `to` (default: its own subject); whether there was one."""
        subject = to or packet.subject
        found = [*self._literal.get(subject, ()), *(one for one in self._wild if matches(one.pattern, subject))]
        groups: dict[str, list[Interest]] = {}
        for interest in found:
            if interest.queue:
                groups.setdefault(interest.queue, []).append(interest)
            else:
                self._hand(interest, packet)
        for members in groups.values():
            self._hand(members[next(self._turns) % len(members)], packet)
        return bool(found)

    def _hand(self, interest: Interest, packet: Packet) -> None:
        interest.heard += 1
        if interest.limit and interest.heard >= interest.limit:
            self.remove(interest)
        interest.take(packet)
