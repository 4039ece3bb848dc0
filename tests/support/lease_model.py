#!/usr/bin/env python3
"""A lease as a model: explores every interleaving of one waiting client, two workers and what may go wrong.

Owns the rules of docs/leases.md in a form that a machine can exhaust: the claim that grants, the greeting, calls with a
token, renewals, the TTL at either side, a worker that is lost or gives the lease back, an owner that is killed, a wait
that is given up. It imports nothing of Millpond on purpose, as `protocol_model` does. Time is a choice: a TTL may run
out whenever nothing has been heard, on the client's side never later than on its worker's.

Checked: calls never run under two owners' tokens at once; no call begins under a token that is not the slot's; from
every reachable state both workers become idle with an empty queue without further faults, so that no slot is leaked.

    python -m tests.support.lease_model                  explores it (seconds)
    python -m tests.support.lease_model --break RULE     the same without one rule, which must report a violation
"""

import sys
from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple


class Broken(Enum):
    """A rule to leave out."""

    NONE = ""
    TOKEN = "token"
    """A worker serves calls whatever token they carry."""
    TTL = "ttl"
    """A worker waits for its owner for ever."""
    STOP = "stop"
    """A worker whose lease has ended does not wait for the call that runs."""


FAULTS = ("is killed", "gives it back")
"""Steps that need not come: a slot that only they would free is leaked."""


class Slot(NamedTuple):
    """A worker's one slot. `token`: the lease that it holds (0: none); `running`: tokens of calls that run in it."""

    alive: bool = True
    token: int = 0
    ending: bool = False
    running: tuple[int, ...] = ()
    heard: bool = False
    """The owner was heard since the last TTL began."""


class Client(NamedTuple):
    """`held`: the token that it was told of; `phase`: waiting, taken, lost, gone (left or gave up), dead."""

    phase: str = "waiting"
    held: int = 0
    at: int = -1


class State(NamedTuple):
    """`log`: the last event as (state, token); `owner`: which worker the message is delivered to (-1: it waits)."""

    slots: tuple[Slot, Slot] = (Slot(), Slot())
    client: Client = Client()
    message: bool = True
    owner: int = -1
    log: tuple[str, int] = ("", 0)
    sequence: int = 0
    kills: int = 1
    releases: int = 1

    @property
    def ended(self) -> bool:
        return self.log[0] == "ended"


def put(state: State, which: int, **changes: object) -> State:
    slots = list(state.slots)
    slots[which] = slots[which]._replace(**changes)  # type: ignore[arg-type]
    return state._replace(slots=(slots[0], slots[1]))


def end(state: State) -> State:
    """An outcome is committed; its compare-and-set counts as one more event."""
    return state if state.ended else state._replace(log=("ended", 0), sequence=state.sequence + 1)


def steps(state: State, broken: Broken) -> Iterator[tuple[str, State]]:
    """Everything that may happen next."""
    yield from _client_steps(state, broken)
    for which, slot in enumerate(state.slots):
        if slot.alive:
            yield from _worker_steps(state, which, broken)
        elif state.owner == which:
            yield f"the message of lost worker {which} comes again", state._replace(owner=-1)


def _client_steps(state: State, broken: Broken) -> Iterator[tuple[str, State]]:
    client = state.client
    if client.phase in ("gone", "dead"):
        return
    yield "the client is killed", state._replace(client=client._replace(phase="dead"))
    name, token = state.log
    left = state._replace(client=client._replace(phase="gone"))
    withdrawn = end(left)._replace(message=False)
    if client.phase == "waiting":
        yield "the client gives up", withdrawn
        if name == "running" and token != client.held:
            yield "the client hears of its grant", state._replace(client=client._replace(held=token, at=state.owner))
        if client.held and client.at >= 0:
            slot = state.slots[client.at]
            if slot.alive and slot.token == client.held and not slot.ending:
                greeted = put(state, client.at, heard=True)
                yield "the worker answers the greeting", greeted._replace(client=client._replace(phase="taken"))
        return
    # Taken: whoever reads a later step, or is not answered for the TTL, has lost it and withdraws.
    slot = state.slots[client.at]
    answers = slot.alive and (slot.token == client.held or broken is Broken.TOKEN) and not slot.ending
    if (name, token) != ("running", client.held) or not answers:
        yield "the client has lost it", withdrawn
    if answers:
        yield "it renews", put(state, client.at, heard=True)
        if not slot.running:
            yield "it calls", put(state, client.at, heard=True, running=(client.held,))
        yield "it checks in", put(left, client.at, ending=True)
    # Its call may be on its way while its slot goes to another lease: the slot's own look at the token decides.
    for other, one in enumerate(state.slots):
        admitted = one.token == client.held or broken is Broken.TOKEN
        if other != client.at and one.alive and one.token and admitted and not one.running:
            yield "a late call reaches another slot", put(state, other, running=(client.held,))


def _worker_steps(state: State, which: int, broken: Broken) -> Iterator[tuple[str, State]]:
    slot = state.slots[which]
    if state.kills:
        lost = put(state, which, alive=False, token=0, running=(), ending=False)
        yield f"worker {which} is killed", lost._replace(kills=state.kills - 1)
    if not slot.token:
        if state.message and state.owner < 0:
            if state.ended:
                yield f"worker {which} finds it ended", state._replace(message=False)
            else:
                claimed = put(state, which, token=state.sequence + 1, heard=True)
                yield (
                    f"worker {which} claims it",
                    claimed._replace(owner=which, sequence=state.sequence + 1, log=("running", state.sequence + 1)),
                )
        return
    if slot.running:
        yield f"a call ends at {which}", put(state, which, running=())
    if slot.heard:
        yield f"time passes at {which}", put(state, which, heard=False)
    elif broken is not Broken.TTL and not slot.ending:
        yield f"the TTL is over at {which}", put(state, which, ending=True)
    if state.log != ("running", slot.token) and not slot.ending:
        yield f"worker {which} hears that it was withdrawn", put(state, which, ending=True)
    if state.releases and not slot.ending and state.log == ("running", slot.token):
        freed = put(state, which, token=0, ending=False, running=(), alive=False)
        given = freed._replace(owner=-1, log=("queued", 0), sequence=state.sequence + 1, releases=state.releases - 1)
        yield f"worker {which} stops and gives it back", given
    if slot.ending and (not slot.running or broken is Broken.STOP):
        # Fenced, when somebody wrote after the claim: then only the slot is freed.
        mine = state.log == ("running", slot.token)
        freed = put(end(state) if mine else state, which, token=0, ending=False)
        gone = state.owner == which and (mine or state.ended)
        yield (
            f"the lease ends at {which}",
            freed._replace(message=freed.message and not gone, owner=-1 if gone else state.owner),
        )


def find_harm(state: State) -> str:
    """What must never be; empty when all is well."""
    for which, slot in enumerate(state.slots):
        if slot.running and slot.token and slot.running != (slot.token,):
            return f"a call under token {slot.running[0]} runs in slot {which}, which is leased under {slot.token}"
        if slot.running and not slot.token:
            return f"slot {which} is free while a call of its last lease still runs"
    tokens = {token for slot in state.slots for token in slot.running}
    if len(tokens) > 1 and state.client.phase == "taken":
        return f"calls under tokens {sorted(tokens)} run at once"
    return ""


def is_clean(state: State) -> bool:
    """Nothing is held and nothing waits."""
    return not state.message and not any(slot.token or slot.running for slot in state.slots)


def explore(broken: Broken = Broken.NONE) -> tuple[int, str]:
    """The number of states, and the first harm with the way to it (empty: none)."""
    start = State()
    way: dict[State, tuple[State, str] | None] = {start: None}
    back: dict[State, list[State]] = {}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        for name, after in steps(state, broken):
            if not name.endswith(FAULTS):
                back.setdefault(after, []).append(state)
            if after in way:
                continue
            way[after] = (state, name)
            if harm := find_harm(after):
                return len(way), f"{harm}:\n  " + "\n  ".join(_way_to(after, way))
            todo.append(after)
    return len(way), _find_leak(way, back)


def _find_leak(way: dict[State, tuple[State, str] | None], back: dict[State, list[State]]) -> str:
    """A state from which the slots never become free; lost workers are replaced, so one live worker must be enough."""
    good = {state for state in way if is_clean(state) or not any(slot.alive for slot in state.slots)}
    todo = deque(good)
    while todo:
        for before in back.get(todo.popleft(), []):
            if before not in good:
                good.add(before)
                todo.append(before)
    stuck = next((state for state in way if state not in good), None)
    return f"a slot is leaked in {stuck}:\n  " + "\n  ".join(_way_to(stuck, way)) if stuck else ""


def _way_to(state: State, way: dict[State, tuple[State, str] | None]) -> list[str]:
    names: list[str] = []
    while step := way[state]:
        state, name = step
        names.append(name)
    return names[::-1]


def main(arguments: list[str]) -> int:
    """1 when something may go wrong."""
    broken = Broken(arguments[1]) if arguments[:1] == ["--break"] else Broken.NONE
    states, harm = explore(broken)
    print(f"{states:,} states: {harm or 'none bad'}")
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
