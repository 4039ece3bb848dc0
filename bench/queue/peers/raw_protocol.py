"""The floor under Millpond's promise: claim, result and ack by hand, the same stored messages in the same order.

Constant events, one callback for a message and no task: nothing is decided, tried again or decoded, no lease is kept,
and the handler is a call. The connection is the SDK's own, which is faster than nats-py's.
"""

import asyncio
import itertools
import json
import sys

import meter
import uvloop
from millpond.connection import Connection
from millpond.link import Listener
from raw import BATCH, STREAM

LOGS = "mp.events.task.bench.bench."
RUNNING = b'{"state":"Running","attempt":1,"at":"2026-01-01T00:00:00.000000Z","handler":"noop","worker":"bench"}'
SUCCEEDED = RUNNING.replace(b"Running", b"Succeeded")[:-1] + b',"result":1}'
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


async def submit() -> None:
    """Bulk, as Millpond's client does it: every task has an id, which names its log."""
    import ours

    await ours.submit()


async def work() -> None:
    connection = Connection()
    await connection.connect(meter.URL, skip_subject_validation=True)
    inbox, answers = connection.new_inbox(), connection.new_inbox()
    tokens = itertools.count()
    waiting: dict[str, Listener] = {}
    loop = asyncio.get_running_loop()
    left = 0

    def send(subject: str, body: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        # It waits for nothing as long as less than 2 MiB are on their way.
        try:
            connection.publish(subject, body, reply, headers).send(None)
        except StopIteration:
            return

    def store(task: str, event: bytes, expected: str, then: Listener) -> None:
        token = f"{answers}.{next(tokens)}"
        waiting[token] = then
        send(LOGS + task, event, token, {EXPECTED: expected})

    def pull() -> None:
        nonlocal left
        left += BATCH
        ask = json.dumps({"batch": BATCH, "expires": 5_000_000_000}).encode()
        send(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.class-default", ask, inbox)

    def on_task(message) -> None:
        nonlocal left
        if not message.reply:
            left = 0
            return pull()
        task = json.loads(message.headers["Mp-Envelope"])["id"]

        def on_claimed(answer) -> None:
            meter.note(0.0)
            store(task, SUCCEEDED, str(json.loads(answer.body)["seq"]), lambda _: send(message.reply, b"+ACK"))

        store(task, RUNNING, "0", on_claimed)
        left -= 1
        if left < BATCH:
            pull()
        return None

    await connection.listen(inbox, on_task)
    await connection.listen(f"{answers}.*", lambda answer: waiting.pop(answer.subject)(answer))
    loop.call_soon(pull)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"submit": submit, "work": work}[sys.argv[1]]())
