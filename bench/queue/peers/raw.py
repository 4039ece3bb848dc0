"""The floor: pull and ack on a stream like Millpond's, by hand with nats-py and nothing else. No results, no claims."""

import asyncio
import json
import sys

import meter
import nats
import uvloop

STREAM = "MP_bench_bench"
SUBJECT = "mp.tasks.bench.bench.default"
BATCH = 500


async def submit() -> None:
    connection = await nats.connect(meter.URL)
    stream = connection.jetstream()
    for start in range(0, meter.TASKS, BATCH):
        count = min(BATCH, meter.TASKS - start)
        headers = {"Mp-Envelope": json.dumps({"v": 1, "id": "x" * 32, "handler": "noop", "codec": "json"})}
        await asyncio.gather(
            *(stream.publish(SUBJECT, b'{"args":[0.0],"kwargs":{}}', headers=headers) for _ in range(count))
        )
    await connection.close()


async def work() -> None:
    connection = await nats.connect(meter.URL)
    inbox = connection.new_inbox()
    left = 0
    ask = json.dumps({"batch": BATCH, "expires": 5_000_000_000}).encode()

    async def pull() -> None:
        nonlocal left
        left += BATCH
        await connection.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.class-default", ask, inbox)

    async def on_message(message: nats.aio.msg.Msg) -> None:
        nonlocal left
        if not message.reply:
            left = 0
            return await pull()
        meter.note(0.0)
        await connection.publish(message.reply, b"+ACK")
        left -= 1
        if left < BATCH:
            await pull()
        return None

    await connection.subscribe(inbox, cb=on_message)
    await pull()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"submit": submit, "work": work}[sys.argv[1]]())
