"""The places of concurrency keys: taken before a task's claim, given back after its handler has ended.

Owns who holds the places of a key and the line of those that wait for one. The rule that keeps both right: a place is
held by a task (not by a worker) and only as long as the task's message is in the queue. So a worker that dies leaks
nothing (whoever gets its message has the place already), a zombie adds nothing (its task counts once, and only its
latest message gives the place back), and places of a queue that somebody purged are found and freed by the next who
finds none. tests/support/limits_model.py explores these rules.

What waits lies in MILLPOND_PARKED, out of the queue: it holds no slot and no delivery. Whoever gives a place back hands
it to the first in line in the same compare-and-set, then moves that message to the queue. All of it comes before the
giver's own ack, so a crash in between is completed by the next delivery of the giver's message.
"""

from dataclasses import dataclass
from typing import Any

from millpond_api import subjects
from millpond_api.envelope import Envelope, MalformedTask, parse_envelope
from millpond_api.lifecycle import TERMINAL, read_event
from millpond_api.limits import Full, Holder, PlaceState, give_place, leave_place, take_place

from millpond.limiting import PlaceDemand
from millpond.limitstore import LimitStore
from millpond.transport import Fenced, Publish, Stored
from millpond.worker.delivery import Delivery, own_headers

KEEP_HELD, KEEP_EMPTY = 30 * 86400.0, 60.0
"""Seconds that a state stays which nobody changes: with holders longer than any task, without any hardly at all."""
STALE_LOOKS = 16
"""Holders whose message is looked for by one that finds no place: one request each."""
DUE_TTL = 7 * 86400.0
"""Seconds that a moved message may wait for its pool's stream to have room, as any due message may."""


@dataclass
class PlaceKeeper:
    """The places of one pool."""

    store: LimitStore
    log: Any

    async def enter(self, demand: PlaceDemand, task: str, message: int) -> Full | None:
        """None: the task has a place (perhaps it had one before). `Full`: there is none, now."""
        return await self._take(demand, Holder(task=task, message=message))

    async def _take(self, demand: PlaceDemand, holder: Holder) -> Full | None:
        while True:
            sequence, state = await self._read(demand)
            taken = take_place(state, holder, demand.limit)
            if isinstance(taken, Full):
                stale = await self._find_stale(state)
                if not stale:
                    return taken
                names = sorted(one.task for one in stale)
                self.log.warning("places of tasks that are gone are freed", key=demand.key, tasks=names)
                taken = give_place(state, stale)
            elif taken is state:
                return None
            if await self._swap(demand, taken, sequence) and taken.has(holder.task):
                return None

    async def leave(self, demand: PlaceDemand, task: str, message: int) -> None:
        """Give back the place that the task has by this message, if it has one, and hand free places on."""
        while True:
            sequence, state = await self._read(demand)
            given = leave_place(state, Holder(task=task, message=message))
            if given is state or await self._swap(demand, given, sequence):
                break
        await self.hand_on(demand)

    async def park(self, demand: PlaceDemand, delivery: Delivery, msg_id: str) -> None:
        """Put the message into the key's line; then look whether a place became free meanwhile."""
        subject, message = self._line(demand), delivery.message
        options = Publish(msg_id=subjects.message_id(self.store.namespace, self.store.pool, msg_id))
        await self.store.transport.publish_stored(subject, message.body, headers=own_headers(message), options=options)
        await self.hand_on(demand)

    async def holders(self, demand: PlaceDemand) -> tuple[Holder, ...]:
        return (await self._read(demand))[1].holders

    async def first_in_line(self, demand: PlaceDemand) -> Stored | None:
        return await self.store.transport.read_first(subjects.STREAM_PARKED, self._line(demand))

    async def hand_on(self, demand: PlaceDemand) -> None:
        """Move the first in line to the queue as long as there is a place for it."""
        while (first := await self.first_in_line(demand)) is not None:
            try:
                envelope = parse_envelope(first.headers.get(subjects.HEADER_ENVELOPE))
            except MalformedTask as error:
                self.log.error("what waits for a place is no task; it is dropped", key=demand.key, why=str(error))
                await self.store.transport.delete_message(subjects.STREAM_PARKED, first.sequence)
                continue
            # Nobody may come any more who would look for places that are held in vain, so it is done here too.
            if await self._take(demand, Holder(task=envelope.id)):
                return
            # Perhaps it had the place already: whoever gave it was lost before the move, or is at it. Both may move it:
            # the server drops the second copy.
            await self._move(first, envelope)

    async def _move(self, first: Stored, envelope: Envelope) -> None:
        """From the line to the queue, by way of MILLPOND_DELAYED: a full queue takes it later by itself."""
        transport = self.store.transport
        headers = {name: text for name, text in first.headers.items() if not name.startswith("Nats-")}
        subject = subjects.due(self.store.namespace, self.store.pool, envelope.task_class, envelope.lane)
        name = subjects.message_id(self.store.namespace, self.store.pool, f"{envelope.id}.line.{first.sequence}")
        options = Publish(msg_id=name, ttl=DUE_TTL)
        await transport.publish_stored(subject, first.body, headers=headers, options=options)
        await transport.delete_message(subjects.STREAM_PARKED, first.sequence)

    async def _find_stale(self, state: PlaceState) -> frozenset[Holder]:
        """Holders that nobody will ever give back a place of."""
        return frozenset([one for one in state.holders[:STALE_LOOKS] if await self._is_stale(one)])

    async def _is_stale(self, holder: Holder) -> bool:
        """Whether its message has left the queue; or it is on its way there and has ended already.

        A line whose first was moved, and is not taken out of it yet, can give the same task a place once more.
        """
        namespace, pool, transport = self.store.namespace, self.store.pool, self.store.transport
        if holder.message:
            return not await transport.has_message(subjects.pool_stream(namespace, pool), holder.message)
        log = subjects.task_events(namespace, pool, holder.task)
        last = await transport.read_last(subjects.STREAM_EVENTS, log)
        event = read_event(last.sequence, last.body) if last else None
        return event is not None and event.state in TERMINAL

    async def _read(self, demand: PlaceDemand) -> tuple[int, PlaceState]:
        found = await self.store.read("places", demand.name, PlaceState)
        return found.sequence, found.state or PlaceState(key=demand.key)

    async def _swap(self, demand: PlaceDemand, state: PlaceState, expected: int) -> bool:
        """False: somebody else changed it, or the answer was lost; read again."""
        try:
            await self.store.swap("places", demand.name, state, expected, KEEP_HELD if state.holders else KEEP_EMPTY)
        except Fenced:
            return False
        return True

    def _line(self, demand: PlaceDemand) -> str:
        return subjects.parked(self.store.namespace, self.store.pool, demand.name)
