"""What becomes of a task in a real worker process on a real nats-server: results, retries, failures, dead letters."""

import json
from datetime import timedelta

import pytest
from millpond import TaskExpired, TaskFailed
from millpond.packing import Habits
from millpond_api import subjects
from millpond_api.envelope import parse_envelope
from millpond_api.events import MAX_OBJECT_BYTES, TaskError

from tests.support.eventually import eventually
from tests.support.workers import START, Mill


async def submit(mill: Mill, handler: str, *args: object, **options: object):  # type: ignore[no-untyped-def]
    return await mill.client.submit(mill.queue.pool, handler, list(args), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("handler", "value", "result"), [("echo", {"a": [1, None]}, {"a": [1, None]}), ("double", 4, 8)]
)
async def test_an_async_and_a_plain_handler_run_once_and_leave_an_empty_queue(
    mill: Mill, handler: str, value: object, result: object
) -> None:
    await mill.start("w1")
    task = await submit(mill, handler, value)
    assert await task.result(timeout=START) == result
    assert await mill.story(task.id) == ["Running(1)@w1", "Succeeded(1)@w1"]
    await mill.is_empty()


async def test_a_retryable_error_backs_off_and_the_next_attempt_counts(mill: Mill) -> None:
    await mill.start("w1")
    task = await submit(mill, "flaky", 3)
    assert await task.result(timeout=START) == 3
    assert await mill.story(task.id) == [
        "Running(1)@w1", "Backoff(1)@w1", "Running(2)@w1", "Backoff(2)@w1", "Running(3)@w1", "Succeeded(3)@w1",
    ]  # fmt: skip
    first = (await mill.log_of(task.id))[1]
    assert first.error is not None
    assert "attempt 1 fails" in first.error.traceback
    assert first.next_at is not None
    await mill.is_empty()


async def test_retry_after_overrides_the_policy_delay(mill: Mill) -> None:
    await mill.start("w1")
    assert await (await submit(mill, "patient")).result(timeout=START) == 2


async def test_the_last_attempt_that_fails_becomes_a_dead_letter_with_the_original_message(mill: Mill) -> None:
    await mill.start("w1")
    task = await submit(mill, "flaky", 99)
    with pytest.raises(TaskFailed) as failure:
        await task.result(timeout=START)
    assert (failure.value.type, failure.value.attempts) == ("RuntimeError", 3)
    headers, body = await mill.dead_letter(task.id)
    assert parse_envelope(headers[subjects.HEADER_ENVELOPE]).attempt == 3
    assert json.loads(body)["args"] == [99]
    assert TaskError.model_validate_json(headers[subjects.HEADER_ERROR]).message == "attempt 3 fails"


@pytest.mark.parametrize(
    ("handler", "args", "kind"),
    [
        ("refuse", [], "NonRetryable"),
        ("huge", [MAX_OBJECT_BYTES + 1], "ResultTooLarge"),
        ("opaque", [], "ResultNotSerializable"),
        ("echo", [1, 2, 3], "BadArguments"),
        ("hurry", [], "HardTimeout"),
    ],
)
async def test_what_cannot_succeed_fails_at_the_first_attempt(mill: Mill, handler: str, args: list, kind: str) -> None:  # type: ignore[type-arg]
    await mill.start("w1")
    task = await submit(mill, handler, *args, check=False)
    with pytest.raises(TaskFailed) as failure:
        await task.result(timeout=START)
    assert (failure.value.type, failure.value.attempts) == (kind, 1)
    await mill.dead_letter(task.id)
    await mill.is_empty()


async def test_a_handler_that_calls_exit_fails_its_attempt_and_not_the_worker(mill: Mill) -> None:
    await mill.start("w1", retry='{"max_attempts": 1}')
    with pytest.raises(TaskFailed, match="SystemExit"):
        await (await submit(mill, "leave")).result(timeout=START)
    assert await (await submit(mill, "echo", 1)).result(timeout=START) == 1


async def test_the_largest_allowed_result_arrives(mill: Mill) -> None:
    mill.client.habits = Habits()  # uncompressed: all of it
    await mill.start("w1")
    task = await submit(mill, "huge", MAX_OBJECT_BYTES - 2)
    assert len(await task.result(timeout=START)) == MAX_OBJECT_BYTES - 2


async def test_a_deadline_that_passed_in_the_queue_expires_the_task_unrun(mill: Mill) -> None:
    task = await submit(mill, "echo", 1, deadline=timedelta(seconds=0.01))
    await mill.start("w1")
    with pytest.raises(TaskExpired):
        await task.result(timeout=START)
    assert await mill.story(task.id) == ["Expired(1)@w1"]
    await mill.is_empty()


async def test_a_deadline_that_passes_in_the_handler_stops_it_and_frees_the_slot(mill: Mill) -> None:
    await mill.start("w1")
    gate = mill.gate("g")
    task = await submit(mill, "gate", gate.path, deadline=timedelta(seconds=3))
    with pytest.raises(TaskExpired):
        await task.result(timeout=START)
    assert await (await submit(mill, "echo", 2)).result(timeout=START) == 2


async def test_a_message_that_is_no_task_becomes_a_dead_letter_and_the_worker_goes_on(mill: Mill) -> None:
    await mill.start("w1")
    subject = subjects.tasks(mill.queue.namespace, mill.queue.pool, "default")
    sequence = await mill.client.transport.publish_stored(subject, b"\xff not a task")
    headers, body = await mill.dead_letter(f"malformed-{sequence}")
    assert "Mp-Envelope" in TaskError.model_validate_json(headers[subjects.HEADER_ERROR]).message
    assert body == b"\xff not a task"
    await mill.is_empty()
    assert await (await submit(mill, "echo", 1)).result(timeout=START) == 1


async def test_a_broken_envelope_with_a_readable_id_fails_that_task_for_whoever_waits(mill: Mill) -> None:
    await mill.start("w1")
    subject = subjects.tasks(mill.queue.namespace, mill.queue.pool, "default")
    header = {subjects.HEADER_ENVELOPE: '{"id": "half", "enqueued": "yesterday"}'}
    await mill.client.transport.publish_stored(subject, b"{}", headers=header)
    with pytest.raises(TaskFailed) as failure:
        await mill.client.handle(mill.queue.pool, "half").result(timeout=START)
    assert failure.value.type == "MalformedTask"
    await mill.dead_letter("half")


async def test_a_payload_that_is_no_payload_fails_without_a_retry(mill: Mill) -> None:
    await mill.start("w1")
    subject = subjects.tasks(mill.queue.namespace, mill.queue.pool, "default")
    header = {subjects.HEADER_ENVELOPE: '{"id": "odd", "handler": "echo", "enqueued": "2026-01-01T00:00:00Z"}'}
    await mill.client.transport.publish_stored(subject, b"[1, 2", headers=header)
    with pytest.raises(TaskFailed) as failure:
        await mill.client.handle(mill.queue.pool, "odd").result(timeout=START)
    assert (failure.value.type, failure.value.attempts) == ("MalformedTask", 1)


async def test_an_unknown_handler_waits_without_an_attempt_and_runs_when_a_worker_has_it(mill: Mill) -> None:
    lean = await mill.start("lean", app="tests.support.worker_app:lean")
    task = await submit(mill, "double", 21)

    async def named() -> bool:
        return (await mill.next_beat("lean")).missing == {"double": 1}

    await eventually(named, START, "the missing handler in the heartbeat")
    assert await mill.story(task.id) == []
    assert await mill.depth() == 1
    lean.kill()
    await mill.start("full")
    assert await task.result(timeout=START) == 42
    assert await mill.story(task.id) == ["Running(1)@full", "Succeeded(1)@full"]


async def test_progress_and_totals_show_in_heartbeats(mill: Mill) -> None:
    await mill.start("w1", concurrency=2)
    gate = mill.gate("g")
    task = await submit(mill, "gate", gate.path)

    async def waiting() -> bool:
        beat = await mill.next_beat("w1")
        return [(one.task, one.progress) for one in beat.in_flight] == [(task.id, "waiting at the gate")]

    await eventually(waiting, START, "the progress in a heartbeat")
    gate.open()
    await task.result(timeout=START)

    async def counted() -> bool:
        beat = await mill.next_beat("w1")
        return (beat.state, beat.succeeded, beat.in_flight, beat.slots) == ("Idle", 1, [], 2)

    await eventually(counted, START, "the totals in a heartbeat")


async def test_a_handler_submits_through_the_contexts_client(mill: Mill) -> None:
    await mill.start("w1", concurrency=2)
    task = await submit(mill, "parent", mill.queue.pool)
    assert await task.result(timeout=START) == "from the child"


async def test_slots_bound_what_runs_at_once(mill: Mill) -> None:
    await mill.start("w1", concurrency=3)
    gate = mill.gate("g")
    tasks = [await submit(mill, "gate-sync" if n % 2 else "gate", gate.path) for n in range(8)]
    await gate.entered(3)
    # Room for a fourth to show up, if there were one: several round trips to the worker and the server.
    for _ in range(5):
        assert (await mill.ask(mill.workers[0], "ping")).in_flight == 3
    assert len(gate.runs()) == 3
    gate.open()
    for task in tasks:
        await task.result(timeout=START)
    await mill.is_empty()
