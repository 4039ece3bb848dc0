"""What happens at one point of the growth curve, and what is measured of it.

Idle pools at zero → a task for each of them at once (the wake storm) → all workers → a steady minute → a minute in
which workers finish tasks and take others → shrink to zero by drains. Each phase waits for what it is about, not for a
time. Nothing is judged here: `report` holds the figures against what was asked for.
"""

import asyncio
import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.scale.meter import Cost, Meter, Sample, compare
from bench.scale.site import Site

PROBES = 10
CALM = 120.0
"""Seconds for the operator to have written what there is to say of 20,000 workers."""


@dataclass(frozen=True)
class Plan:
    """How large and how long. `churn` is the share of the workers that change their task in a second."""

    pools: int
    workers: int
    seconds: float = 60.0
    churn: float = 0.01
    patience: float = 1800.0


@dataclass
class Point:
    """The figures of one point, phase by phase."""

    plan: Plan
    costs: dict[str, Cost] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Play:
    """Runs the phases of one point."""

    def __init__(self, site: Site, meter: Meter, plan: Plan) -> None:
        self.site, self.meter, self.plan = site, meter, plan
        self.point = Point(plan)

    async def run(self) -> Point:
        """All phases; one that took too long is noted, and the next ones still show what they can."""
        watch = await self.site.watch_deployments()
        try:
            for phase in (self.settle, self.idle, self.storm, self.grow, self.steady, self.churn, self.shrink):
                say(f"{self.plan.pools} pools: {phase.__name__}")
                before = self.meter.read()
                try:
                    await phase()
                except TimeoutError as error:
                    self.point.notes.append(f"{phase.__name__}: {error}")
                    say(f"  {error}")
                self._note(phase.__name__, before)
        finally:
            watch.cancel()
        return self.point

    def _note(self, phase: str, before: Sample) -> None:
        cost = self.point.costs[phase] = compare(before, self.meter.read())
        say(
            f"  {cost.seconds:.0f} s, {cost.cores:.2f} cores, {cost.rss:.0f} MB (peak {cost.peak:.0f}), loop p50 "
            f"{cost.tick_p50 * 1000:.0f} ms p99 {cost.tick_p99 * 1000:.0f} ms, {cost.writes:.1f} writes/s "
            f"{ {kind: round(rate, 1) for kind, rate in list(cost.by_kind.items())[:5]} }"
        )
        say(f"  cores around it: { {name: round(cores, 2) for name, cores in sorted(cost.others.items())} }")

    def _figure(self, name: str, value: float) -> None:
        self.point.figures[name] = value
        say(f"  {name}: {value:.3f}")

    # ---- phases

    async def settle(self) -> None:
        """Pools are made; each has its queue and its Deployment."""
        await self.site.make_pools(self.plan.workers)

        async def ready() -> bool:
            statuses = await self.site.read_statuses()
            return sum(_reason(status) == "AtZero" for status in statuses.values()) == self.plan.pools

        self._figure("pools_ready_s", await self.site.wait(ready, "pools at zero", 600))

    async def idle(self) -> None:
        """Nothing happens."""
        await asyncio.sleep(self.plan.seconds / 2)

    async def storm(self) -> None:
        """One task into each queue at once."""
        began = await self.site.publish(self.site.names, 1)
        published = max(began.values()) - min(began.values())

        async def woken() -> bool:
            return len(self.site.scaled) == self.plan.pools

        try:
            await self.site.wait(woken, "every pool woken", 240, 0.1)
        finally:
            self._note_storm(began, published)

    def _note_storm(self, began: dict[str, float], published: float) -> None:
        """The delays of the pools that were seen above zero."""
        delays = sorted(self.site.scaled[name] - began[name] for name in self.site.scaled)
        first = min(began.values())
        self._figure("storm_published_s", published)
        self._figure("storm_all_patched_s", max(self.site.scaled.values()) - first)
        self._figure("storm_p50_s", statistics.median(delays))
        self._figure("storm_p99_s", delays[min(len(delays) - 1, len(delays) * 99 // 100)])
        self._figure("storm_woken", len(delays))
        self._figure("storm_displaced", displacement(began, self.site.scaled))

    async def grow(self) -> None:
        """As many tasks as workers may be; every worker runs one."""
        await self.site.publish(self.site.names, self.plan.workers - 1)
        total = self.plan.pools * self.plan.workers

        async def up() -> bool:
            counts = await self.site.ask_hands()
            say(f"  {counts.get('hands', 0)} of {total} workers", end="\r")
            return counts.get("hands", 0) >= total

        try:
            self._figure("grow_s", await self.site.wait(up, f"{total} workers", self.plan.patience, 3.0))
        finally:
            self._figure("workers", (await self.site.ask_hands()).get("hands", 0))

        async def shown() -> bool:
            statuses = await self.site.read_statuses()
            return all(status.get("inFlight") == self.plan.workers for status in statuses.values())

        self._figure("grow_shown_after_s", await self.site.wait(shown, "statuses of all pools", 300, 1.0))

    async def steady(self) -> None:
        """Every worker is amid a long task; a probe now and then asks how far a status is behind."""
        await self._calm()
        before = self.meter.read()
        lags = []
        for pool in random.sample(self.site.names, min(PROBES, self.plan.pools)):
            lags.append(await self._probe(pool))
            await asyncio.sleep(max(0.0, self.plan.seconds / PROBES - lags[-1]))
        self._figure("status_lag_p50_s", statistics.median(lags))
        self._figure("status_lag_max_s", max(lags))
        self._note("steady_minute", before)

    async def _calm(self) -> None:
        """Until the Worker objects say what there is to say."""
        last = self.meter.read()
        await asyncio.sleep(2)

        async def calm() -> bool:
            nonlocal last
            now = self.meter.read()
            cost, last = compare(last, now), now
            return cost.writes < 2.0

        try:
            self._figure("calm_after_s", await self.site.wait(calm, "an operator with nothing to write", CALM, 5.0))
        except TimeoutError as error:
            self.point.notes.append(f"steady: not steady, pods still come and go ({error})")

    async def _probe(self, pool: str) -> float:
        """From one more task in a queue until the pool's status shows it."""
        began = time.monotonic()
        await self.site.publish([pool], 1)
        wanted = self.plan.workers + 1

        async def shown() -> bool:
            return bool((await self.site.read_status(pool)).get("lag", 0) >= wanted)

        await self.site.wait(shown, f"the lag of {pool}", 60, 0.05)
        return time.monotonic() - began

    async def churn(self) -> None:
        """Some workers finish their task and take another each second."""
        for _ in range(round(self.plan.seconds / 2)):
            await self.site.ask_hands(churn=self.plan.churn)
            await asyncio.sleep(1)

    async def shrink(self) -> None:
        """All tasks are done: every worker is drained, and then goes."""
        await self.site.finish_tasks()
        await self.site.ask_hands(busy=False)

        async def gone() -> bool:
            counts = await self.site.ask_hands()
            say(f"  {counts.get('hands', 0)} workers left", end="\r")
            return counts.get("hands", 0) == 0

        self._figure("shrink_s", await self.site.wait(gone, "no workers", self.plan.patience, 3.0))
        counts = await self.site.ask_hands()
        for name in ("ended", "interrupted", "undrained", "drains"):
            self._figure(f"shrink_{name}", counts.get(name, 0))

        async def shown() -> bool:
            statuses = await self.site.read_statuses()
            return all(_reason(status) == "AtZero" and not status.get("replicas") for status in statuses.values())

        self._figure("shrink_shown_after_s", await self.site.wait(shown, "statuses of all pools", 600, 1.0))


def displacement(began: dict[str, float], ended: dict[str, float]) -> float:
    """How far the median pool is from its place in the order of the publishes, as a share of all (random: a third)."""
    order = {name: place for place, name in enumerate(sorted(ended, key=began.__getitem__))}
    moved = [abs(order[name] - place) for place, name in enumerate(sorted(order, key=lambda name: ended[name]))]
    return statistics.median(moved) / len(order)


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


def _reason(status: dict[str, Any]) -> str:
    conditions = {one["type"]: one for one in status.get("conditions") or []}
    return str(conditions.get("Ready", {}).get("reason", ""))
