"""`millpond dead` against real dead letters: listed, shown, put back, thrown away, and what a dry run leaves alone."""

import asyncio
import json

import pytest
from click.testing import Result
from millpond import TaskFailed, TaskHandle
from millpond_api import subjects
from millpond_api.events import LossNote, LostWorker, utc_now
from millpond_cli.main import app
from typer.testing import CliRunner

from tests.support.workers import START, Mill


async def dead(mill: Mill, *words: str) -> Result:
    """The command in a thread: it runs an event loop of its own."""
    arguments = ["dead", *words, "--nats", mill.server.url, "-n", mill.queue.namespace]
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


async def fail(mill: Mill, handler: str = "refuse") -> TaskHandle:
    task = await mill.client.submit("mill", handler, [], check=False)
    with pytest.raises(TaskFailed):
        await task.result(timeout=START)
    await mill.dead_letter(task.id)
    return task


async def test_letters_are_listed_shown_redriven_and_purged(mill: Mill) -> None:
    await mill.start("w1")
    task, other = await fail(mill), await fail(mill, "huge")
    listed = await dead(mill, "list", "--handler", "ref*")
    assert listed.exit_code == 0
    assert task.id in listed.stdout
    assert other.id not in listed.stdout
    assert "NonRetryable" in listed.stdout
    as_json = json.loads((await dead(mill, "list", "-o", "json")).stdout)
    assert {one["task"] for one in as_json} == {task.id, other.id}

    note = LossNote(at=utc_now(), workers=(LostWorker(worker="w9", reason="OOMKilled", exit_code=137),))
    subject = subjects.dead_note(mill.queue.namespace, "mill", task.id)
    await mill.client.transport.publish_stored(subject, note.encode())
    shown = (await dead(mill, "show", task.id)).stdout
    assert "NonRetryable: this can never work" in shown
    assert "w9: OOMKilled (exit code 137)" in shown
    assert "Traceback" in shown

    assert task.id in (await dead(mill, "redrive", task.id, "--dry-run")).stdout
    assert (await mill.story(task.id))[-1] == "Failed(1)@w1"
    redriven = await dead(mill, "redrive", task.id)
    assert (redriven.exit_code, redriven.stdout) == (0, "1 redriven\n")
    with pytest.raises(TaskFailed):
        await task.result(timeout=START)

    purged = await dead(mill, "purge", other.id)
    assert (purged.exit_code, purged.stdout) == (0, "1 purged\n")
    again = await dead(mill, "purge", other.id)
    assert again.exit_code == 1
    assert "no dead letter of that name" in again.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["redrive"], "or --all alone"),
        (["purge", "--all", "--pool", "mill"], "or --all alone"),
        (["list", "--older", "soon"], "--older"),
        (["show", "nobody"], "has no dead letter"),
    ],
)
async def test_what_cannot_be_meant_is_one_sentence(mill: Mill, words: list[str], says: str) -> None:
    done = await dead(mill, *words)
    assert done.exit_code == 1
    assert says in done.stderr
    assert "Traceback" not in done.output
