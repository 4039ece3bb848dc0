"""Priority classes: shares under saturation, no starvation, an urgent task at once, no task where there is no slot."""

import asyncio
from collections import Counter

import pytest

from tests.support.bed import START, Bed

WEIGHTS = {"high": 5, "default": 3, "low": 1}
CLASSES = tuple(WEIGHTS)


async def backlog(bed: Bed, counts: dict[str, int]) -> list[str]:
    """That many tasks waiting in each class; the list tells the classes in the order of their starts."""
    starts: list[str] = []

    @bed.app.task("note")
    async def note(name: str) -> None:
        starts.append(name)

    await bed.change_pool(classes=tuple(counts))
    for name, count in counts.items():
        await bed.client.submit_many(bed.queue.pool, "note", [[name]] * count, priority=name)
    return starts


def shares_of(starts: list[str]) -> dict[str, float]:
    """The share of each class over its weight's: 1.0 is exact."""
    counts, total = Counter(starts), sum(WEIGHTS.values())
    return {name: counts[name] / len(starts) / (weight / total) for name, weight in WEIGHTS.items()}


@pytest.mark.parametrize(("workers", "slots"), [(1, 16), (6, 1)], ids=["one with many slots", "many with one slot"])
async def test_saturated_classes_get_their_weights_within_a_tenth(bed: Bed, workers: int, slots: int) -> None:
    starts = await backlog(bed, dict.fromkeys(CLASSES, 300))
    bed.settings = {"classes": CLASSES, "weights": WEIGHTS, "concurrency": slots}
    for number in range(workers):
        await bed.spawn_worker(f"w{number}")
    # 300 of the class with 5/9 are gone after 540 starts: until then all three have something waiting.
    await bed.until(lambda: len(starts) >= 500, "500 starts")
    shares = shares_of(starts[:500])
    # A stall costs the class whose turn it is: on the real server a quarter, in virtual time exactly what is promised.
    allowed = 0.25 if bed.ground.stalls else 0.1
    assert all(abs(share - 1) <= allowed for share in shares.values()), shares
    await bed.is_empty()


async def test_a_low_class_is_served_while_the_higher_ones_never_run_dry(bed: Bed) -> None:
    starts = await backlog(bed, {"high": 400, "low": 3})
    await bed.start_worker("w1", classes=("high", "low"), weights={"high": 20}, concurrency=2)
    await bed.until(lambda: starts.count("low") == 3, "the low class")
    assert starts.index("high") < 30
    # Its third is due after three cycles of 21; one more for what was under way.
    assert [place for place, name in enumerate(starts) if name == "low"][-1] <= 4 * 21
    await bed.is_empty()


async def test_an_urgent_task_starts_at_the_next_free_slot_whatever_waits_below(bed: Bed) -> None:
    gate, runs = bed.gate(), list[str]()

    @bed.app.task("held")
    async def held() -> None:
        await gate.pass_through()

    @bed.app.task("note")
    async def note(name: str) -> None:
        runs.append(name)

    await bed.change_pool(classes=CLASSES)
    await bed.submit("held", priority="low")
    await bed.start_worker("w1", classes=CLASSES, weights=WEIGHTS, concurrency=1)
    await bed.until(lambda: gate.runs, "the slot taken")
    await bed.client.submit_many("mill", "note", [["low"]] * 50, priority="low")
    urgent = await bed.submit("note", "high", priority="high")
    gate.open()
    await urgent.result(timeout=START)
    assert runs.index("high") == 0
    await bed.is_empty()


async def test_no_task_lies_at_a_worker_whose_slots_are_full_while_another_is_idle(bed: Bed) -> None:
    """Idle, a worker waits at every class: what comes after its slot is taken has to run elsewhere, at once."""
    gate = bed.gate()

    @bed.app.task("held")
    async def held(name: str) -> str:
        await gate.pass_through(name)
        return name

    await bed.change_pool(classes=CLASSES)
    for name in ("w1", "w2", "w3"):
        await bed.start_worker(name, classes=CLASSES, weights=WEIGHTS, concurrency=1)
    tasks = [await bed.submit("held", name, priority=name) for name in CLASSES]
    await bed.until(lambda: len(gate.runs) == 3, "all three at once")
    gate.open()
    assert [await task.result(timeout=START) for task in tasks] == list(CLASSES)
    await bed.is_empty()


async def test_an_idle_worker_is_woken_by_every_class(bed: Bed) -> None:
    @bed.app.task("echo")
    async def echo(value: str) -> str:
        return value

    await bed.change_pool(classes=CLASSES)
    await bed.start_worker("w1", classes=CLASSES)
    for name in (*CLASSES, *reversed(CLASSES)):
        assert await asyncio.wait_for(bed.call("echo", name, priority=name), START) == name
    await bed.is_empty()
