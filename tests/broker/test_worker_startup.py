"""How a worker process begins and answers probes: wrong settings end it with a sentence and code 2."""

import httpx
import pytest

from tests.support.eventually import eventually
from tests.support.nats import free_port
from tests.support.workers import START, Mill


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"app": "no_such_module:app"}, "module 'no_such_module' could not be imported"),
        ({"app": "tests.support.worker_app:nothing"}, "has no 'nothing'"),
        ({"app": "tests.support.workers:Mill"}, "not a millpond.App"),
        ({"pool": "a.b"}, "MILLPOND_POOL"),
        ({"concurrency": "0"}, "MILLPOND_CONCURRENCY"),
    ],
)
async def test_a_wrong_setting_ends_it_with_code_2_and_a_sentence(
    mill: Mill, settings: dict[str, str], sentence: str
) -> None:
    worker = mill.spawn("w1", **settings)
    assert await worker.ended() == 2
    last = worker.text().strip().splitlines()[-1]
    assert last.startswith("millpond worker: ")
    assert sentence in last


async def test_an_app_that_cannot_be_imported_shows_the_users_traceback(mill: Mill) -> None:
    (mill.directory / "broken_app.py").write_text("import json\njson.loads('{')\n")
    worker = mill.spawn("w1", app="broken_app:app", directory=mill.directory)
    assert await worker.ended() == 2
    assert "JSONDecodeError" in worker.text()
    assert "broken_app.py" in worker.text()


async def test_probes_answer_and_readiness_comes_with_the_queue(mill: Mill) -> None:
    port = free_port()
    worker = await mill.start("w1", http_port=port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as web:
        assert (await web.get("/healthz", timeout=START)).status_code == 200
        assert (await web.get("/readyz", timeout=START)).status_code == 200
        await mill.ask(worker, "drain")
        await mill.reaches(worker, "Stopped")
        assert (await web.get("/readyz", timeout=START)).text == "Stopped\n"


async def test_heartbeats_name_the_handlers_and_the_incarnation(mill: Mill) -> None:
    first = await mill.start("w1", app="tests.support.worker_app:lean")
    beat = await mill.next_beat("w1")
    assert (beat.handlers, beat.slots, beat.state) == (("echo",), 1, "Idle")
    first.kill()
    second = mill.spawn("w1")

    async def another() -> bool:
        # The first one's last beats may still be on their way.
        return (await mill.next_beat("w1")).incarnation != beat.incarnation

    await eventually(another, START, "a beat of the second incarnation")
    second.kill()
