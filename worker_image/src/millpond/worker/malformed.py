"""Messages that are not tasks: each becomes a dead letter with the reason and leaves the queue. Never a crash.

If the task's id can still be read, its log gets a `Failed` too, so that whoever waits for the task hears of it.
"""

import orjson
from millpond_api.envelope import MOST, Envelope, MalformedTask, parse_envelope
from millpond_api.events import MAX_PAYLOAD_BYTES, TaskError, utc_now
from millpond_api.subjects import HEADER_ENVELOPE, check_handler, check_token

from millpond.outcomes import MAX_MESSAGE, Origin, make_failed
from millpond.transport import Fenced, Message, Refused
from millpond.worker.delivery import TERM, Delivery
from millpond.worker.journal import PASSING, Journal, Pause

MOST_HEADERS = 40 * 1024
"""Bytes of a task's headers: a retry, a snooze or a redrive adds some 2 KiB, and the server stores at most 64 KiB. The
largest envelope that a Task's manifest makes has 35 KiB (64 names each of errors to retry on and to give up on)."""


def read_envelope(message: Message) -> Envelope:
    """The message's envelope; MalformedTask when it is no task that any worker could run, retry or put off."""
    envelope = parse_envelope(message.headers.get(HEADER_ENVELOPE))
    try:
        check_token(envelope.id, "task id")
        check_token(envelope.task_class, "class")
        check_handler(envelope.handler)
    except ValueError as error:
        raise MalformedTask(f"Mp-Envelope: {error}") from None
    if envelope.spent >= envelope.attempt:
        raise MalformedTask(f"Mp-Envelope: spent: {envelope.spent} attempts before attempt {envelope.attempt}")
    if len(message.body) > MAX_PAYLOAD_BYTES:
        raise MalformedTask(f"the payload has {len(message.body):,} bytes, at most {MAX_PAYLOAD_BYTES:,} may be")
    # The server's own few count too: leaving them out would cost more than all the rest of this.
    size = sum(map(len, message.headers)) + sum(map(len, message.headers.values()))
    if size > MOST_HEADERS:
        raise MalformedTask(f"the message has {size:,} characters of headers, at most {MOST_HEADERS:,} may be")
    return envelope


async def bury_malformed(journal: Journal, worker: str, delivery: Delivery, reason: MalformedTask) -> None:
    """Log (if the task is known), dead letter, then out of the queue."""
    error = TaskError(type="MalformedTask", message=str(reason)[:MAX_MESSAGE], retryable=False)
    task_id, attempt = _guess_task(delivery.message)
    if task_id:
        await _fail(journal, worker, (task_id, attempt), error)
    name = task_id or f"malformed-{delivery.sequence}"
    await journal.bury(name, attempt, error, delivery)
    await journal.answer(delivery.reply, TERM + b" malformed")


async def _fail(journal: Journal, worker: str, task: tuple[str, int], error: TaskError) -> None:
    """`Failed` at the end of the task's log, unless it has ended already."""
    task_id, attempt = task
    envelope = Envelope(id=task_id, handler="", attempt=attempt, enqueued=utc_now())
    event, pause = make_failed(Origin(envelope, worker), "Malformed", error, utc_now()), Pause()
    while True:
        try:
            view = await journal.read(task_id)
            if not view.terminal:
                await journal.append(task_id, event, view.last.sequence if view.last else 0)
            return
        except Fenced:
            continue
        except (*PASSING, Refused):
            await pause.wait()


def _guess_task(message: Message) -> tuple[str, int]:
    """Id and attempt from a broken envelope, ("", 1) when it names none."""
    try:
        found = orjson.loads(message.headers.get(HEADER_ENVELOPE, ""))
        attempt = found.get("attempt", 1)
        return check_token(found["id"], "task id"), attempt if isinstance(attempt, int) and 0 < attempt <= MOST else 1
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", 1
