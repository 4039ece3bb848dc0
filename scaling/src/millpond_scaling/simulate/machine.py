"""The queue and its workers, event by event: what happens between two looks of a scaler.

Owns the rules of the world: first in, first out; a free slot takes the next task at once; a worker counts from its
creation until it is gone. A drained worker goes idle; a pod that is told to go takes nothing new, may finish what it
runs within the grace, and what is left then goes back to the head of the queue and begins again. It must not know any
policy. Which pods a ReplicaSet removes: those that are not ready first, then the youngest (its rank by readiness time).
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count, pairwise

from millpond_scaling.simulate.chance import Chance
from millpond_scaling.simulate.model import Arrival, Moment, Outcome, Scaler, Setting, View

POINTS = 240
"""Points of the plot."""
SERVICE_WINDOW = 300.0
"""Seconds over which the mean service time is taken, as the operator does from heartbeats."""
GIVEN_UP = 20
"""A trace that is not worked off after this many times its length will not be: the rest is unfinished."""


class Worker:
    __slots__ = ("born", "busy", "going", "gone", "ready")

    def __init__(self, born: float) -> None:
        self.born = born
        self.ready = False
        self.going = False
        self.gone: float | None = None
        self.busy: set[int] = set()


class Machine:
    """One trace under one scaler."""

    def __init__(self, arrivals: Sequence[Arrival], setting: Setting, scaler: Scaler) -> None:
        self.arrivals, self.setting, self.scaler = arrivals, setting, scaler
        self.grace = setting.grace if scaler.grace is None else scaler.grace
        self.pods = Chance(setting.seed, "pods")
        self.now = 0.0
        self.horizon = (arrivals[-1].at if arrivals else 0.0) + setting.tail
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.waiting: deque[int] = deque()
        self.free: deque[Worker] = deque()
        """One entry for each free slot; those of workers that go are dropped when their turn comes."""
        self.crew: list[Worker] = []
        """Workers that count as replicas: not told to go."""
        self.everyone: list[Worker] = []
        self.begun: dict[int, float] = {}
        self.finished: set[int] = set()
        self.recent: deque[tuple[float, float]] = deque()
        self.recent_sum = 0.0
        self.arrived = self.in_flight = self.told_busy = self.interrupted = self.cut = 0
        self.numbers = [0]
        self.series: list[Moment] = []
        self.next_look = 0.0

    # ---- the course of events

    def run(self) -> Outcome:
        """Everything that happens, until the horizon is reached and all is worked off."""
        self._arm_arrival(0)
        self._sample()
        self._look_at(0.0)
        last = self.horizon * GIVEN_UP
        while self._events:
            at, _, happen = heapq.heappop(self._events)
            if (at > self.horizon and len(self.finished) == len(self.arrivals)) or at > last:
                break
            self.now = at
            happen()
        return self._outcome()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _arm_arrival(self, index: int) -> None:
        if index < len(self.arrivals):
            self._at(self.arrivals[index].at, lambda: self._arrive(index))

    def _arrive(self, index: int) -> None:
        self.arrived += 1
        self.waiting.append(index)
        self._dispatch()
        wake = self.scaler.woken(self.now, len(self.crew))
        if wake is not None and wake < self.next_look:
            self._look_at(wake)
        self._arm_arrival(index + 1)

    def _dispatch(self) -> None:
        while self.waiting and self.free:
            worker = self.free.popleft()
            if not worker.going:
                self._begin(worker, self.waiting.popleft())

    def _begin(self, worker: Worker, task: int) -> None:
        begun = self.now
        self.begun[task] = begun
        worker.busy.add(task)
        self.in_flight += 1
        self._at(begun + self.arrivals[task].service, lambda: self._finish(worker, task, begun))

    def _finish(self, worker: Worker, task: int, begun: float) -> None:
        if task not in worker.busy or self.begun[task] != begun:
            return  # it was cut off, and runs or waits elsewhere
        worker.busy.discard(task)
        self.in_flight -= 1
        self.finished.add(task)
        service = self.arrivals[task].service
        self.recent.append((self.now, service))
        self.recent_sum += service
        if worker.going:
            self._leave(worker)
        else:
            self.free.append(worker)
            self._dispatch()

    # ---- the scaler

    def _look_at(self, when: float) -> None:
        self.next_look = when
        self._at(when, lambda: self._look(when))

    def _look(self, planned: float) -> None:
        if planned != self.next_look:
            return  # an earlier look has taken its place
        answer = self.scaler.look(self.view())
        if answer.target is not None:
            self._scale(answer.target)
        self._look_at(max(answer.next, self.now + 1e-3))

    def view(self) -> View:
        """What can be seen now."""
        while self.recent and self.recent[0][0] < self.now - SERVICE_WINDOW:
            self.recent_sum -= self.recent.popleft()[1]
        ready = sum(1 for worker in self.crew if worker.ready)
        service = self.recent_sum / len(self.recent) if self.recent else None
        return View(
            self.now,
            len(self.waiting),
            self.in_flight,
            len(self.crew),
            ready,
            len(self.crew) - ready,
            self.arrived,
            len(self.finished),
            service,
        )

    def _scale(self, target: int) -> None:
        before = len(self.crew)
        for _ in range(target - before):
            self._create()
        if target < before:
            victims = self._idle() if self.scaler.drains else self._by_rank()
            for worker in victims[: before - target]:
                self._send_away(worker)
            self.crew = [worker for worker in self.crew if not worker.going]
        if len(self.crew) != before:
            self.numbers.append(len(self.crew))

    def _create(self) -> None:
        worker, start = Worker(self.now), self.setting.pod_start
        self.crew.append(worker)
        self.everyone.append(worker)
        pull = start.pull if self.pods.uniform() < start.pull_share else 0.0
        self._at(
            self.now + start.schedule + pull + self.pods.lognormal(start.start, start.sigma), lambda: self._up(worker)
        )

    def _up(self, worker: Worker) -> None:
        if worker.going:
            return
        worker.ready = True
        self.free.extend([worker] * self.setting.slots)
        self._dispatch()

    def _idle(self) -> list[Worker]:
        """Who may be drained: idle workers, and nobody while one starts (docs/decisions.md 9)."""
        if any(not worker.ready for worker in self.crew):
            return []
        return [worker for worker in reversed(self.crew) if not worker.busy]

    def _by_rank(self) -> list[Worker]:
        return sorted(self.crew, key=lambda worker: (worker.ready, -worker.born))

    def _send_away(self, worker: Worker) -> None:
        worker.going = True
        if not worker.busy:
            self._leave(worker)
            return
        self.told_busy += 1
        self._at(self.now + self.grace, lambda: self._kill(worker))

    def _kill(self, worker: Worker) -> None:
        for task in sorted(worker.busy, reverse=True):
            self.interrupted += 1
            self.in_flight -= 1
            self.waiting.appendleft(task)
        if worker.busy:
            worker.busy.clear()
            self._leave(worker)
            self._dispatch()

    def _leave(self, worker: Worker) -> None:
        if not worker.busy and worker.gone is None:
            worker.gone = self.now + self.setting.stop

    # ---- what came of it

    def _sample(self) -> None:
        self.series.append(Moment(round(self.now, 3), len(self.waiting), len(self.crew)))
        if self.now < self.horizon:
            self._at(self.now + self.horizon / POINTS, self._sample)

    def _outcome(self) -> Outcome:
        end = max(self.horizon, self.now)
        latencies = sorted(self.begun[task] - self.arrivals[task].at for task in self.finished)
        steps = [after - before for before, after in pairwise(self.numbers)]
        return Outcome(
            policy=self.scaler.name,
            latencies=tuple(latencies),
            worker_seconds=sum(min(end, end if w.gone is None else w.gone) - w.born for w in self.everyone),
            busy_seconds=sum(self.arrivals[task].service for task in sorted(self.finished)),
            pods=len(self.everyone),
            changes=len(steps),
            flaps=sum(1 for one, two in pairwise(steps) if (one > 0) != (two > 0)),
            told_busy=self.told_busy,
            interrupted=self.interrupted,
            unfinished=len(self.arrivals) - len(self.finished),
            peak=max(self.numbers),
            series=tuple(self.series),
        )


def simulate(arrivals: Sequence[Arrival], setting: Setting, scaler: Scaler) -> Outcome:
    """The trace under the scaler, from an empty queue and no workers."""
    return Machine(arrivals, setting, scaler).run()
