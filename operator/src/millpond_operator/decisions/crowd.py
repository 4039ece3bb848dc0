"""A pool's workers as one small record: how many, how ready, what they run, what troubles them. Pure.

Workers outside the cluster count for what is run and offered; they are no pods, so nothing that is about pods (how
many, how ready, drained ones, versions) knows of them.

Owns what the scaling loop and the pool's status read of the workers, so that a pool in which nothing changed costs
nothing: `World.crowd` makes it anew only after one of its workers said something new, fell silent or was heard again.
So nothing in it may depend on the time in another way than by `WorkerMemory.silence`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from millpond_api.events import Beat
from millpond_api.lifecycle import WorkerState

from millpond_operator.decisions.workers import Silence, WorkerMemory, decide_state

NAMED_HANDLERS = 5
TAKING = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.LEASED)
"""States in which a worker takes tasks, or would with a free slot."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The workers of a pool.

    `in_flight` counts the tasks that fresh heartbeats name; it is None while a ready worker is silent for less than
    its leases last. `said_in_flight` counts what every worker said last. `states` are those that are no end.
    `drained` names the workers that run nothing, take nothing more, and whose pod nobody deletes yet.
    """

    pods: int = 0
    ready: int = 0
    in_flight: int | None = 0
    said_in_flight: int = 0
    states: dict[str, int] = field(default_factory=dict)
    trouble: tuple[str, str] | None = None
    drained: tuple[str, ...] = ()
    ready_of: dict[str, int] = field(default_factory=dict)
    """Ready workers by the version of the pool's template, and those of them that run a task."""
    busy_of: dict[str, int] = field(default_factory=dict)
    missing: tuple[tuple[str, int], ...] = ()
    """Handlers that tasks wait for and that no live worker has, with the tasks that were seen."""
    unschedulable: int = 0
    unschedulable_why: str = ""
    limited: bool = False
    """Whether the pool's rate holds any of them back."""
    remote: int = 0
    """Workers outside the cluster that are heard of; their slots, of one that drains those in use; what they run."""
    remote_slots: int = 0
    remote_in_flight: int = 0


def make_crowd(workers: Iterable[tuple[str, WorkerMemory]], remote: Iterable[WorkerMemory] = ()) -> Crowd:
    """The record of these workers, each with its pod's name, and of those outside the cluster."""
    outside = list(remote)
    heard = [worker.beat for worker in outside if worker.beat is not None and worker.silence is Silence.NONE]
    seen = [(name, worker, worker.pod) for name, worker in workers if worker.pod is not None]
    staying = [(name, pod) for name, _, pod in seen if not pod.going]
    serving = [one for one in seen if one[2].ready and not one[2].going]
    told = [(name, worker, worker.beat) for name, worker, _ in seen if worker.beat is not None]
    fresh = [(name, worker, beat) for name, worker, beat in told if worker.silence is Silence.NONE]
    beats = [*(beat for _, _, beat in fresh), *heard]
    blind = any(_is_missed(worker) for _, worker, _ in seen) or any(_is_unheard(worker) for worker in outside)
    states: dict[str, int] = {}
    for worker in (*(worker for _, worker, _ in seen), *outside):
        state = _state(worker)
        states[state] = states.get(state, 0) + 1
    troubles = ((pod.trouble[0], f"worker {name}: {pod.trouble[1]}") for name, pod in staying if pod.trouble)
    unplaced = [pod.trouble[1] for _, pod in staying if pod.trouble and pod.trouble[0] == "Unschedulable"]
    missing = _read_missing(beats)
    return Crowd(
        pods=len(staying),
        ready=sum(pod.ready for _, pod in staying),
        in_flight=None if blind else sum(len(beat.in_flight) for beat in beats),
        said_in_flight=sum(len(beat.in_flight) for beat in (*(beat for _, _, beat in told), *heard)),
        states=states,
        trouble=next(troubles, None) or say_missing(missing),
        missing=missing,
        drained=tuple(name for name, worker, _ in fresh if is_drained(worker)),
        ready_of=dict(Counter(pod.version for _, _, pod in serving)),
        busy_of=dict(Counter(pod.version for _, worker, pod in serving if worker.beat and worker.beat.in_flight)),
        unschedulable=len(unplaced),
        unschedulable_why=unplaced[0] if unplaced else "",
        limited=any(beat.limited for beat in beats),
        remote=len(heard),
        remote_slots=sum(beat.slots if beat.state in TAKING else len(beat.in_flight) for beat in heard),
        remote_in_flight=sum(len(beat.in_flight) for beat in heard),
    )


def is_drained(worker: WorkerMemory) -> bool:
    """Whether it runs nothing, takes nothing more, and nobody deletes its pod."""
    beat, pod = worker.beat, worker.pod
    if beat is None or pod is None or pod.going:
        return False
    return beat.state in (WorkerState.DRAINING, WorkerState.STOPPED) and not beat.in_flight


def _is_missed(worker: WorkerMemory) -> bool:
    """Whether it should have said what it runs and did not."""
    pod, told = worker.pod, worker.beat is not None and worker.silence is Silence.NONE
    return not told and pod is not None and pod.ready and not pod.going and worker.silence is not Silence.LONG


def _is_unheard(worker: WorkerMemory) -> bool:
    """Whether a remote worker may still run what nobody knows of: its leases have not ended yet."""
    return worker.silence is Silence.LOST


def _state(worker: WorkerMemory) -> str:
    # At the moment when it was heard last nobody is Lost: that it is now, its silence says.
    state = decide_state(worker, None, worker.heard).state
    alive = state not in (WorkerState.STARTING, WorkerState.FAILED, WorkerState.STOPPED)
    return WorkerState.LOST if alive and worker.silence is not Silence.NONE else state


def _read_missing(beats: list[Beat]) -> tuple[tuple[str, int], ...]:
    """What some lack and none has: two versions of an app side by side lack something of each other."""
    there = {handler for beat in beats for handler in beat.handlers}
    counts: dict[str, int] = {}
    for beat in beats:
        for handler, tasks in beat.missing.items():
            # A task goes from worker to worker: the most that one of them has seen is nearer than the sum.
            counts[handler] = max(tasks, counts.get(handler, 0))
    return tuple(sorted((handler, tasks) for handler, tasks in counts.items() if handler not in there))


def say_missing(missing: tuple[tuple[str, int], ...]) -> tuple[str, str] | None:
    """Reason and sentence on the handlers that nobody has; None when nothing is missing."""
    if not missing:
        return None
    names = ", ".join(name_missing(handler) for handler, _ in missing[:NAMED_HANDLERS])
    return "HandlerMissing", f"no worker has {names}: tasks for it wait until an image with it is rolled out"


def name_missing(name: str) -> str:
    """`the handler resize`; `the codec gzip` for a payload that nobody can read."""
    kind, colon, codec = name.partition(":")
    return f"the codec {codec}" if colon and kind == "codec" else f"the handler {name}"


def count_missing(missing: tuple[tuple[str, int], ...]) -> tuple[str, str] | None:
    """The same with the tasks that were seen waiting for each."""
    said = say_missing(missing)
    if said is None:
        return None
    counts = ", ".join(f"{handler}: {tasks}" for handler, tasks in missing[:NAMED_HANDLERS])
    return said[0], f"{said[1]} (seen waiting: {counts})"
