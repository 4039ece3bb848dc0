"""The status of a Worker from what it says (beats, events) and what the kubelet says of its pod: pure.

One outside the cluster has no pod, so only its own word counts: silence makes it Lost, and after GONE_AFTER it counts
as gone.

Precedence: a pod that is gone or a container that ended badly outweighs what the worker said before; a fresh heartbeat
of a newer process (another incarnation) outweighs an older end. Silence makes it Lost, never Stopped.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cache
from itertools import takewhile

from millpond_api.events import Beat, WorkerEvent
from millpond_api.lifecycle import WORKER_ENDED, WORKER_TRANSITIONS, WorkerState
from millpond_api.v1alpha1 import WorkerStatus
from millpond_api.v1alpha1.worker import WorkerTransition

from millpond_operator.decisions.conditions import Fact, make_conditions
from millpond_operator.decisions.pods import Ended, PodFacts
from millpond_operator.decisions.stuck import decide_stuck, make_running

LOST_AFTER = 8.0
"""Seconds without a heartbeat (sent every second, every three while nothing changes): longer than a garbage
collection or a NATS reconnect takes, and two beats of a quiet worker may be lost."""
SILENT_LONG = 30.0
"""A worker that is silent for longer counts as running nothing: its leases have ended."""
GONE_AFTER = 600.0
"""A remote worker that is silent for longer is taken for gone: a laptop that was closed over lunch comes back as the
same Worker, one that was closed for the night begins a new line of its history."""
KEPT = 30


class Silence(IntEnum):
    """For how long a worker has said nothing, as far as it matters."""

    NONE = 0
    LOST = 1
    LONG = 2


@dataclass(slots=True)
class WorkerMemory:
    """What the operator remembers of a worker between two looks. Mutable: the loops fill it, decisions only read it."""

    pod: PodFacts | None = None
    beat: Beat | None = None
    heard: float = 0.0
    silence: Silence = Silence.NONE
    """As of the last look at all silences (every second): what is derived from it changes only with it."""
    events: list[WorkerEvent] = field(default_factory=list)
    retired: str = ""
    """Why the operator takes its pod away (ScaleDown, ...); empty while it stays."""
    ended_incarnation: str = ""
    """The incarnation whose container is known to have ended."""
    gone: bool = False
    """Its pod does not exist any more; a remote worker has said goodbye, or was silent for too long."""
    host: str = ""
    """Where a remote worker runs, as its object says: all that a new leader knows of it before its first heartbeat."""

    @property
    def is_remote(self) -> bool:
        """Whether it runs outside the cluster: no pod is its, whatever it calls itself."""
        return self.pod is None and bool(self.host)


def decide_silence(seconds: float) -> Silence:
    """The step that a silence of so many seconds has reached."""
    if seconds <= LOST_AFTER:
        return Silence.NONE
    return Silence.LOST if seconds <= SILENT_LONG else Silence.LONG


@dataclass(frozen=True)
class Verdict:
    """The state that a worker is in, and why."""

    state: str
    reason: str = ""
    message: str = ""
    ended: Ended | None = None


def decide_state(memory: WorkerMemory, before: WorkerStatus | None, now: float) -> Verdict:
    """The state of the worker at `now` (the clock of `heard`)."""
    pod, beat = memory.pod, memory.beat
    was = before.state if before else ""
    if memory.is_remote:
        return _remote(memory, before, now)
    if memory.gone or pod is None:
        return _gone(memory, before)
    if pod.phase == "Failed" and pod.ended:
        return Verdict(WorkerState.FAILED, pod.ended.reason, pod.ended.message, pod.ended)
    if pod.ended and not pod.ended.clean and not pod.running:
        return Verdict(WorkerState.FAILED, pod.ended.reason, pod.ended.message, pod.ended)
    if pod.phase == "Succeeded" or (pod.going and pod.ended and not pod.running):
        return Verdict(WorkerState.STOPPED, memory.retired or "Terminated", "", pod.ended)
    if beat is None or beat.incarnation == memory.ended_incarnation:
        if was in WORKER_ENDED and pod.ended and not pod.running and before:
            return Verdict(was, before.reason, before.message, pod.ended)
        return _starting(pod)
    if beat.state == WorkerState.FAILED:
        # Its last beat: the kubelet will say the same, with the exit code.
        said = next((event for event in reversed(memory.events) if event.state == beat.state), None)
        return Verdict(beat.state, said.reason if said else "", said.message if said else "")
    if now - memory.heard > LOST_AFTER and beat.state != WorkerState.STOPPED:
        return _lost(now - memory.heard)
    reason = memory.retired if beat.state in (WorkerState.DRAINING, WorkerState.STOPPED) else ""
    return Verdict(beat.state, reason or _restart_reason(pod), _restart_text(pod), pod.ended)


def _lost(seconds: float) -> Verdict:
    text = f"no heartbeat for {seconds:.0f} s; its tasks go to others when their leases end"
    return Verdict(WorkerState.LOST, "HeartbeatsMissed", text)


def _remote(memory: WorkerMemory, before: WorkerStatus | None, now: float) -> Verdict:
    """What a worker outside the cluster says itself; nobody else knows how it is."""
    beat = memory.beat
    said = next((event for event in reversed(memory.events) if event.state in WORKER_ENDED), None)
    if beat is not None and beat.state in WORKER_ENDED:
        known = before if before and before.state == beat.state else None
        reason = said.reason if said else known.reason if known else "Terminated"
        return Verdict(beat.state, reason, said.message if said else known.message if known else "")
    if memory.gone:
        text = f"no heartbeat for {GONE_AFTER:.0f} s: it counts as gone, and comes back as new"
        return Verdict(WorkerState.STOPPED, "Gone", text)
    if beat is None or memory.silence is not Silence.NONE:
        # Heard before this operator led: since then at least it says nothing.
        return _lost(now - memory.heard) if memory.heard else Verdict(WorkerState.LOST, "HeartbeatsMissed", _UNHEARD)
    return Verdict(beat.state)


_UNHEARD = "no heartbeat since this operator began to listen; its tasks go to others when their leases end"


def _starting(pod: PodFacts) -> Verdict:
    if pod.trouble:
        return Verdict(WorkerState.STARTING, pod.trouble[0], pod.trouble[1])
    return Verdict(WorkerState.STARTING, _restart_reason(pod), _restart_text(pod), pod.ended)


def _restart_reason(pod: PodFacts) -> str:
    return f"Restarted after {pod.ended.reason}" if pod.ended and pod.restarts and not pod.ended.clean else ""


def _restart_text(pod: PodFacts) -> str:
    if not (pod.ended and pod.restarts and not pod.ended.clean):
        return ""
    return f"{pod.ended.message} (at {pod.ended.at}; {pod.restarts} restarts)"


def _gone(memory: WorkerMemory, before: WorkerStatus | None) -> Verdict:
    """Its pod does not exist any more: did it end well?"""
    pod, beat = memory.pod, memory.beat
    if before and before.state in WORKER_ENDED:
        return Verdict(before.state, before.reason, before.message, pod.ended if pod else None)
    if pod and pod.ended and not pod.ended.clean and not pod.running:
        return Verdict(WorkerState.FAILED, pod.ended.reason, pod.ended.message, pod.ended)
    said_stopped = bool(memory.events and memory.events[-1].state == WorkerState.STOPPED)
    if said_stopped or (beat and beat.state == WorkerState.STOPPED) or (pod and pod.ended and pod.ended.clean):
        return Verdict(WorkerState.STOPPED, memory.retired or "Terminated")
    if beat is None or (pod and not pod.running and not pod.ended):
        return Verdict(WorkerState.STOPPED, memory.retired or "NeverStarted", "its pod went before it had started")
    return Verdict(WorkerState.FAILED, "PodGone", "its pod vanished without a goodbye (deleted by force, or node lost)")


def make_worker_status(memory: WorkerMemory, before: WorkerStatus | None, at: datetime, now: float) -> WorkerStatus:
    """The whole status; transitions are kept from before and never repeated."""
    verdict = decide_state(memory, before, now)
    pod, beat = memory.pod, memory.beat
    ended = verdict.state in WORKER_ENDED
    transitions = _transitions(before.transitions if before else [], memory.events, verdict, at)
    since = transitions[-1].at if transitions else at
    fresh = None if ended else beat
    status = WorkerStatus(
        state=verdict.state,
        since=since,
        slots=beat.slots if beat else 0,
        in_flight=len(fresh.in_flight) if fresh else 0,
        running=[make_running(task) for task in fresh.in_flight[:50]] if fresh else [],
        succeeded=beat.succeeded if beat else (before.succeeded if before else 0),
        failed=beat.failed if beat else (before.failed if before else 0),
        restarts=pod.restarts if pod else (before.restarts if before else 0),
        node=pod.node if pod else memory.host or (before.node if before else ""),
        reason=verdict.reason,
        message=verdict.message[:1024],
        exit_code=verdict.ended.exit_code if verdict.ended else None,
        transitions=transitions,
        starved=fresh.starved if fresh else None,
    )
    ready = Fact("Ready", verdict.state in ("Idle", "Busy", "Leased"), verdict.state, verdict.message)
    facts = [ready, *decide_stuck(status, before)]
    status.conditions = make_conditions(before.conditions if before else [], facts, at, 1)
    return status


def _transitions(
    old: list[WorkerTransition], events: list[WorkerEvent], verdict: Verdict, at: datetime
) -> list[WorkerTransition]:
    """Old steps, then what the worker told since, then the verdict if it says something else than the last of them."""
    steps = list(old)
    newest = steps[-1].at if steps else None
    for event in events:
        if newest is None or event.at > newest:
            told = WorkerTransition(state=event.state, at=event.at, reason=event.reason, count=event.flips)
            _append(steps, told, verdict.ended)
    _append(steps, WorkerTransition(state=verdict.state, at=at, reason=verdict.reason), verdict.ended)
    return steps[-KEPT:]


def _append(steps: list[WorkerTransition], step: WorkerTransition, ended: Ended | None) -> None:
    """Add a step, unless the worker is in that state already: then it may say why, if nobody did.

    Steps that nobody saw are filled in by the shortest way through the state machine: a kubelet restarts a container
    faster than it tells that it ended, and a worker's own word may be lost or late. Flips between Idle, Busy and Leased
    are folded, from one state to its next time, so that the steps that matter are not pushed out.
    """
    last = steps[-1].state if steps else None
    if last == step.state:
        if step.state in WORKER_ENDED and not steps[-1].reason:
            steps[-1] = steps[-1].model_copy(update={"reason": step.reason})
        return
    for state in _way(last, step.state) if last else ():
        reason = ended.reason if ended and state in WORKER_ENDED else "NotSeen"
        _fold(steps, WorkerTransition(state=state, at=step.at, reason=reason))
    _fold(steps, step)


def _fold(steps: list[WorkerTransition], step: WorkerTransition) -> None:
    flips = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.LEASED)
    run = list(takewhile(lambda known: known.state in flips, reversed(steps)))
    if step.state in flips and len(run) >= 3:
        last, *before = run
        # From the same state to the same state: what lies between is folded into the later of both.
        same = max((place for place, known in enumerate(before, 1) if known.state == last.state), default=0)
        count = sum(known.count for known in run[: same + 1])
        del steps[len(steps) - same - 1 :]
        steps.append(last.model_copy(update={"count": count}))
    steps.append(step)


@cache
def _way(source: str, target: str) -> tuple[str, ...]:
    """The states between two states on a shortest way through the table; none where one step leads there."""
    ways: list[tuple[str, ...]] = [(source,)]
    seen = {source}
    for way in ways:
        for step in WORKER_TRANSITIONS:
            if step.source == way[-1] and step.target == target:
                return way[1:]
            if step.source == way[-1] and step.target not in seen:
                seen.add(step.target)
                ways.append((*way, step.target))
    return ()
