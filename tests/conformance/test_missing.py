"""Tasks whose handler no worker has: held, shown, never discarded, and run as soon as a worker has it."""

import asyncio

from millpond import App

from tests.support.bed import Bed


def lean() -> App:
    """An app without the handler that the tests want."""
    app = App()

    @app.task("other")
    async def other() -> str:
        return "other"

    return app


def full() -> App:
    app = lean()

    @app.task("late")
    async def late(value: int) -> int:
        return value

    return app


async def test_a_held_task_runs_at_once_when_a_worker_with_its_handler_appears(bed: Bed) -> None:
    """Also beside workers without it, who go on with what they can do meanwhile; no attempt is used."""
    worker = await bed.start_worker("old", app=lean(), concurrency=1)
    tasks = [await bed.submit("late", value) for value in range(5)]

    async def noticed() -> bool:
        beat = await bed.next_beat("old")
        return beat.missing == {"late": 5} and not beat.in_flight

    await bed.until(noticed, "the beat that names the handler")
    assert worker.worker.board.in_flight == 0
    assert await bed.call("other") == "other"
    began = bed.ground.now()
    await bed.start_worker("new", app=full())
    assert await asyncio.gather(*(task.result(timeout=60) for task in tasks)) == [0, 1, 2, 3, 4]
    # Far less than the delays of 5 s and more with which such messages would come back by themselves.
    took = bed.ground.now() - began
    assert took < 30 + bed.ground.stalls, took
    for task in tasks:
        assert [event.attempt for event in await bed.log(task)] == [1, 1]
    await bed.is_empty()


async def test_a_handler_registered_at_run_time_runs_what_waited_for_it(bed: Bed) -> None:
    app = lean()
    worker = await bed.start_worker("w1", app=app)
    task = await bed.submit("late", 7)
    await bed.until(lambda: bool(worker.worker.board.shelved), "the task on the shelf")

    @app.task("late")
    async def late(value: int) -> int:
        return value

    assert await task.result(timeout=60) == 7
    await bed.is_empty()


async def test_a_worker_that_stops_gives_back_what_it_could_not_run(bed: Bed) -> None:
    worker = await bed.start_worker("w1", app=lean())
    task = await bed.submit("late", 7)
    await bed.until(lambda: bool(worker.worker.board.shelved), "the task on the shelf")
    await worker.stop()
    await bed.start_worker("w2", app=full())
    assert await task.result(timeout=60) == 7


async def test_a_worker_that_dies_with_held_tasks_loses_none(bed: Bed) -> None:
    worker = await bed.start_worker("w1", app=lean())
    task = await bed.submit("late", 7)
    await bed.until(lambda: bool(worker.worker.board.shelved), "the task on the shelf")
    await bed.crash(worker)
    await bed.start_worker("w2", app=full())
    assert await task.result(timeout=60) == 7
