"""A supervisor's machine as plain JSON data and back, and its children changed while it runs.

Owns how a machine outlives its process: `freeze` what it knows, `thaw` it elsewhere, and it goes on in the middle of a
restart. `reshape` gives it other flags and children, as a code change does in OTP (supervisor.erl: code_change). Reads
records of older versions: what they don't hold is as in a machine that waits for nothing.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from millpond_api.supervision.machine import (
    Command,
    Start,
    Stop,
    Supervisor,
    _Added,
    _Asked,
    _Exited,
    _State,
    _TryAgain,
)
from millpond_api.supervision.specification import Child, End, Exit, Flags, check

Record = dict[str, Any]


def freeze(machine: Supervisor) -> Record:
    """Everything but the flags and the children's specifications, which stand in the supervisor's spec."""
    return {
        "children": list(machine.children),
        "states": {name: str(state) for name, state in machine._states.items()},
        "restarts": list(machine.restarts),
        "heard": [_freeze_heard(heard) for heard in machine._heard if not isinstance(heard, _Added)],
        "plan": [_freeze_step(step) for step in machine._plan],
        "pending": [_freeze_step(step) for step in machine._pending.values()],
        "ending": machine._ending and str(machine._ending),
        "ended": machine.ended and str(machine.ended),
        "beginning": machine._beginning,
    }


def thaw(flags: Flags, children: Iterable[Child], record: Record) -> Supervisor:
    """The machine that was frozen. A child without a specification any more is forgotten, one that is new is not known.

    `children` are the specifications by now; BadSpecification as for `Supervisor.make`.
    """
    specs = {child.id: child for child in children}
    check(flags, list(specs.values()))
    known = {name: specs[name] for name in record.get("children", ()) if name in specs}
    states = record.get("states", {})
    pending = [step for step in map(_thaw_step, record.get("pending", ())) if step.child in specs]
    return Supervisor(
        flags,
        known,
        End(record["ended"]) if record.get("ended") else None,
        [int(at) for at in record.get("restarts", ())],
        {name: _State(states.get(name, _State.ENDED)) for name in known},
        deque(heard for heard in map(_thaw_heard, record.get("heard", ())) if _names(heard) in (None, *known)),
        deque(step for step in map(_thaw_step, record.get("plan", ())) if step.child in known),
        {step.child: step for step in pending},
        End(record["ending"]) if record.get("ending") else None,
        bool(record.get("beginning", False)),
    )


def reshape(machine: Supervisor, flags: Flags, children: Iterable[Child], now: float) -> list[Command]:
    """Other flags and children, in this order; what is to be done now.

    A child that is new counts as running: whoever drives the machine has it already. One that is not named any more is
    forgotten with all that was planned for it, and what was asked of it counts as done. BadSpecification as for `make`.
    """
    specs = {child.id: child for child in children}
    check(flags, list(specs.values()))
    machine.flags, machine.children = flags, specs
    machine._states = {name: machine._states.get(name, _State.RUNNING) for name in specs}
    machine._plan = deque(step for step in machine._plan if step.child in specs)
    machine._heard = deque(heard for heard in machine._heard if _names(heard) in (None, *specs))
    machine._pending = {name: step for name, step in machine._pending.items() if name in specs}
    return machine._go_on(now)


def revive(machine: Supervisor, child: str) -> None:
    """The child runs again, by somebody else's hand (supervisor.erl: restart_child, which counts as no restart)."""
    if child in machine.children:
        machine._states[child] = _State.RUNNING


def is_running(machine: Supervisor, child: str) -> bool:
    """Whether an end of this child would be news."""
    return machine._states.get(child) is _State.RUNNING


def _names(heard: _Exited | _TryAgain | _Asked | _Added) -> str | None:
    match heard:
        case _Exited(child, _) | _TryAgain(child):
            return child
        case _Added(child):
            return child.id
        case _:
            return None


def _freeze_step(step: Start | Stop) -> Record:
    # JSON knows no infinity: no time is one.
    if isinstance(step, Start):
        return {"start": step.child}
    return {"stop": step.child} | ({} if step.within == float("inf") else {"within": step.within})


def _thaw_step(record: Record) -> Start | Stop:
    if "start" in record:
        return Start(record["start"])
    return Stop(record["stop"], float(record.get("within", "inf")))


def _freeze_heard(heard: _Exited | _TryAgain | _Asked | _Added) -> Record:
    match heard:
        case _Exited(child, how):
            return {"exited": child, "how": str(how)}
        case _TryAgain(child):
            return {"tryAgain": child}
        case _Asked(why):
            return {"asked": str(why)}
        case _Added(child):
            raise ValueError(f"{child.id!r} is being added: children come by `reshape` where machines are frozen")


def _thaw_heard(record: Record) -> _Exited | _TryAgain | _Asked:
    if "exited" in record:
        return _Exited(record["exited"], Exit(record["how"]))
    if "tryAgain" in record:
        return _TryAgain(record["tryAgain"])
    return _Asked(End(record["asked"]))


__all__ = ["Record", "freeze", "is_running", "reshape", "revive", "thaw"]
