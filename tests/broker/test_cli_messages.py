"""`millpond signal`, `query` and `workers` over a real NATS, without Kubernetes."""

import asyncio
import json

from click.testing import Result
from millpond_cli.main import app
from typer.testing import CliRunner

from tests.support.eventually import eventually
from tests.support.workers import START, Mill


async def command(mill: Mill, *words: str) -> Result:
    """The command in a thread: it runs an event loop of its own."""
    arguments = [*words, "--nats", mill.server.url, "-n", mill.queue.namespace]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def test_a_task_is_signalled_and_asked_and_its_worker_found(mill: Mill) -> None:
    worker = await mill.start("w1", app="tests.support.isolated_app:app")
    task = await mill.client.submit(mill.queue.pool, "inline.talk")
    sent = await command(mill, "signal", task.id, "add", "7", "--pool", mill.queue.pool)
    assert (sent.exit_code, sent.stdout) == (0, f"signal add stored for task {task.id}\n"), sent.output

    async def answered() -> bool:
        asked = await command(mill, "query", task.id, "total", "--pool", mill.queue.pool)
        return asked.exit_code == 0 and json.loads(asked.stdout) == [7, worker.process.pid]

    await eventually(answered, START, "the sum")
    unknown = await command(mill, "query", task.id, "speed", "--pool", mill.queue.pool)
    assert unknown.exit_code == 1
    assert "knows no query 'speed': it answers total" in unknown.output

    async def found() -> bool:
        listed = await command(mill, "workers", "--wait", "1s", "-o", "json")
        mine = [one for one in json.loads(listed.stdout) if one["namespace"] == mill.queue.namespace]
        return [(one["worker"], one["in_flight"]) for one in mine] == [("w1", 1)]

    await eventually(found, START, "the worker")
    assert "w1" in (await command(mill, "workers", "--wait", "1s")).stdout
    await task.signal("end")
    assert await task.result(timeout=START) == [0, 7]
