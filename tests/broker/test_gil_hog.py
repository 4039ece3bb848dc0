"""A call into C that holds the interpreter for longer than a lease: the task is not lost, and the cause is told."""

import signal

from millpond_api.events import Beat

from tests.support.eventually import eventually
from tests.support.workers import LEASE, START, Mill

APP = "tests.support.isolated_app:app"


async def test_a_handler_that_holds_the_interpreter_for_three_leases_loses_none_and_is_told(mill: Mill) -> None:
    await mill.start("w1", app=APP)
    await mill.start("w2", app=APP)
    task = await mill.client.submit(mill.queue.pool, "thread.hold-gil", [3 * LEASE])

    async def starved() -> Beat | None:
        beat = await mill.next_beat()
        return beat if beat.starved else None

    assert [one.task for one in (await eventually(starved, START, "a starved beat")).in_flight] in ([task.id], [])
    assert await task.result(timeout=START) == "held"
    states = [event.state for event in await mill.log_of(task.id)]
    assert states == ["Running", "Succeeded"]

    async def cause() -> bool:
        """Among the notes: a busy machine may have starved a worker before."""
        notes = [one for name in ("w1", "w2") for one in await mill.states(name) if one.reason == "Starved"]
        return any("isolated_app.py" in note.message and "hold_gil" in note.message for note in notes)

    await eventually(cause, START, "the note that names the handler")


async def test_the_understudy_keeps_nothing_for_a_worker_that_was_killed(mill: Mill) -> None:
    worker = await mill.start("w1", app=APP)
    task = await mill.client.submit(mill.queue.pool, "thread.hold-gil", [60])

    async def begun() -> bool:
        return bool(await mill.log_of(task.id))

    await eventually(begun, START, "the claim")
    worker.signal(signal.SIGKILL)
    await worker.ended()
    # Not until it says Idle: it may have the task, and not one more word of Python, before that word is sent.
    mill.spawn("w2", app=APP, concurrency=2)

    async def taken() -> bool:
        return "Running(1)@w2" in await mill.story(task.id)

    await eventually(taken, START, "the heir's claim")
