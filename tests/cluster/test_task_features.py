"""What the SDK offers, from manifests: keys, limits, results, dead letters; each told by status, condition or command.

One pool for nearly all of it, with one worker in the place of its pod: what the pool's spec says reaches that worker
only through the Deployment that the operator made of it.
"""

import asyncio
import os
import pty
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from millpond import Client, Unique
from millpond_api import subjects
from millpond_cli.main import app
from typer.testing import CliRunner, Result

from tests.cluster.test_cli_command import command
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works, moment, stale

T = TypeVar("T")
POOL, METERED = "features", "metered"
ONE_POD = {"scaling": {"minWorkers": 1, "maxWorkers": 1}}


@pytest.fixture(scope="module")
def features(shared_works: Works) -> Iterator[Works]:
    """The works with both pools and their workers up."""
    shared_works.make_pool(
        POOL,
        concurrency=8,
        concurrencyLimits={"perKey": 1},
        rateLimit={"perKey": "1/m"},
        results={"inlineMax": "1Ki", "ttl": "1h"},
        deadLetter={"retention": "2h"},
        **ONE_POD,
    )
    shared_works.make_pool(METERED, concurrency=4, rateLimit={"rate": "1/2s"}, **ONE_POD)
    workers = [shared_works.start_worker_of_pod(pool) for pool in (POOL, METERED)]
    eventually_sync(lambda: ask(shared_works, lambda client: client.handlers(POOL)), LONG, "the catalogue", 0.2)
    yield shared_works
    shared_works.stop_all(workers)


@pytest.fixture
def works(features: Works, works: Works) -> Works:
    """The same with files of the test's own."""
    return works


def ask(works: Works, question: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Ask the SDK."""

    async def go() -> T:
        async with Client.connect(works.server.url, namespace=works.namespace) as client:
            return await question(client)

    return asyncio.run(go())


def millpond(works: Works, *words: str) -> Result:
    """The command in this process: starting one takes longer than what most of these do."""
    return CliRunner().invoke(app, command(works.kube, *words)[3:])


def make(works: Works, name: str, handler: str = "echo", args: Any = (), **spec: Any) -> Body:
    return works.make_task(name, POOL, handler, args, **spec)


# ---- unique keys


def test_a_task_yields_to_the_one_that_has_its_unique_key_and_says_to_which(works: Works) -> None:
    gate = works.gate("gate")
    first = make(works, "nightly-1", "gate", [gate.path], uniqueKey="nightly")
    gate.entered_sync()
    make(works, "nightly-2", uniqueKey="nightly")
    status = works.reaches("nightly-2", "Cancelled", reason="Yielded")
    assert status["message"].startswith("task nightly-1 (Running) has the unique key 'nightly'")
    assert (status["attempts"], condition(works.task("nightly-2"), "Accepted")["status"]) == (0, "False")
    # The SDK's submissions stand under the same keys.
    handle = ask(works, lambda client: client.submit(POOL, "echo", ["x"], unique=Unique(key="nightly")))
    assert handle.id == first["metadata"]["uid"]
    gate.open()
    works.reaches("nightly-1", "Succeeded")
    make(works, "nightly-3", uniqueKey="nightly")
    works.reaches("nightly-3", "Succeeded")
    assert len(gate.runs()) == 1


def test_a_task_that_replaces_one_for_later_runs_and_that_one_says_by_whom_it_was_replaced(works: Works) -> None:
    later: Any = {"uniqueKey": "report", "notBefore": moment(3600)}
    make(works, "report-1", **later)
    works.reaches("report-1", "Scheduled", reason="NotBefore")
    make(works, "report-2", **later)
    assert "task report-1 (Scheduled)" in works.reaches("report-2", "Cancelled", reason="Yielded")["message"]
    make(works, "report-3", uniqueKey="report", unique={"onConflict": "Replace"})
    replaced = works.reaches("report-1", "Cancelled", reason="Replaced")
    assert "task report-3" in replaced["message"]
    assert [step["phase"] for step in replaced["transitions"]] == ["Scheduled", "Cancelled"]
    works.reaches("report-3", "Succeeded")


def test_a_unique_keys_period_outlives_the_task(works: Works) -> None:
    hourly: Any = {"uniqueKey": "hourly", "unique": {"period": "1h"}}
    make(works, "hourly-1", **hourly)
    works.reaches("hourly-1", "Succeeded")
    make(works, "hourly-2", **hourly)
    assert "task hourly-1 (Succeeded)" in works.reaches("hourly-2", "Cancelled", reason="Yielded")["message"]


# ---- arguments


def test_arguments_that_the_handler_does_not_take_fail_the_task_before_any_worker_has_it(works: Works) -> None:
    wrong = {"kwargs": {"valeu": 21}}
    make(works, "refused", "double", **wrong)
    make(works, "unchecked", "double", checkArguments=False, **wrong)
    make(works, "right", "double", kwargs={"value": 21})
    status = works.reaches("refused", "Failed", reason="ArgumentsRefused")
    assert "the handler is double(value: int)" in status["message"]
    assert (status["attempts"], status["error"]["type"]) == (0, "ArgumentsRefused")
    failed = works.reaches("unchecked", "Failed")
    assert (failed["attempts"], failed["error"]["type"].rpartition(".")[2]) == (1, "BadArguments")
    assert works.reaches("right", "Succeeded")["result"] == 42


# ---- limits


def test_a_task_without_a_place_of_its_concurrency_key_says_who_holds_it(works: Works) -> None:
    gate = works.gate("gate")
    holder = make(works, "holder", "gate", [gate.path], concurrencyKey="customer-7")
    gate.entered_sync()
    make(works, "waiter", concurrencyKey="customer-7")
    held = eventually_sync(lambda: condition(works.task("waiter"), "Waiting"), LONG, "the condition", 0.1)
    assert held["status"] == "True"
    assert "1 of 1 places of key customer-7" in held["message"]
    assert holder["metadata"]["uid"] in held["message"]
    gate.open()
    for name in ("waiter", "holder"):
        works.reaches(name, "Succeeded")
    assert stale([works.task("waiter"), works.task("holder")]) == []


def test_a_task_beyond_the_rate_of_its_key_says_when_it_starts(works: Works) -> None:
    make(works, "first", rateKey="customer-7")
    works.reaches("first", "Succeeded")
    make(works, "second", rateKey="customer-7")
    status = works.reaches("second", "Scheduled", reason="RateLimited")
    assert status["nextAttemptAt"] > moment(0)
    assert condition(works.task("second"), "Waiting")["status"] == "True"
    works.kube.patch("tasks", "second", {"spec": {"cancel": True}})
    works.reaches("second", "Cancelled")


def test_a_pool_at_its_rate_says_so(works: Works) -> None:
    # A minute's worth: that long there is something to be told, on a slow machine too.
    for number in range(30):
        works.make_task(f"metered-{number}", METERED)

    def limited() -> bool:
        return condition(works.kube.get("workerpools", METERED), "RateLimited").get("status") == "True"

    eventually_sync(limited, LONG, "the condition RateLimited", 0.2)


# ---- results, dead letters


def test_a_result_above_the_pools_bound_is_stored_and_the_status_says_where(works: Works) -> None:
    make(works, "large", "huge", [3000])
    status = works.reaches("large", "Succeeded")
    stored = status["storedResult"]
    assert (stored["where"], stored["size"], stored["codec"]) == ("ObjectStore", 3002, "json")
    assert moment(3000) < stored["expiresAt"] < moment(3700)
    assert "in the object store" in status["message"]
    followed = millpond(works, "follow", "large")
    assert (followed.exit_code, followed.stdout) == (0, "")
    assert "in the object store" in followed.stderr
    uid = works.task("large")["metadata"]["uid"]
    assert ask(works, lambda client: client.handle(POOL, uid).result(timeout=LONG)) == "x" * 3000


def test_the_letters_of_tasks_are_listed_shown_redriven_and_purged_by_their_names(works: Works) -> None:
    def dead(*words: str) -> str:
        done = millpond(works, "dead", *words, "--nats", works.server.url)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    task = make(works, "hopeless", "refuse")
    works.reaches("hopeless", "Failed")
    assert "hopeless" in eventually_sync(lambda: dead("list", "--pool", POOL, "--handler", "refuse"), what="the letter")
    assert "NonRetryable: this can never work" in dead("show", "hopeless")
    letter = subjects.dead(works.namespace, POOL, task["metadata"]["uid"])
    stored = ask(works, lambda client: client.transport.read_last(subjects.STREAM_DEAD, letter))
    assert stored is not None
    assert stored.headers[subjects.HEADER_TTL] == "7200s"
    for verb in ("redrive", "purge"):
        assert "hopeless" in dead(verb, "hopeless", "--dry-run")
    assert works.status("hopeless")["attempts"] == 1
    assert dead("redrive", "hopeless") == "1 redriven\n"
    eventually_sync(lambda: works.status("hopeless")["attempts"] == 2, LONG, "the second attempt", 0.1)
    works.reaches("hopeless", "Failed")
    eventually_sync(lambda: "hopeless" in dead("list", "--pool", POOL, "--handler", "refuse"), what="the letter again")
    assert dead("purge", "hopeless") == "1 purged\n"
    assert works.status("hopeless")["phase"] == "Failed"


# ---- hung, and followed


def test_a_hung_task_shows_in_its_workers_condition_and_its_progress_in_the_commands_bar(works: Works) -> None:
    gate = works.gate("gate")
    make(works, "mill", "stubborn", [gate.path], softTimeout="500ms")
    screen, follower = follow_on_a_terminal(works, "mill")
    gate.entered_sync()
    name = works.reaches("mill", "Running")["worker"]

    def hung() -> Body:
        return condition(works.kube.get("workers", name), "Hung")

    def is_hung() -> bool:
        return hung().get("status") == "True"

    eventually_sync(is_hung, LONG, "the condition Hung", 0.1)
    assert hung()["reason"] == "TaskHung"
    assert "task mill (stubborn, attempt 1) hangs" in hung()["message"]
    eventually_sync(lambda: "mill: 40% of the corn" in screen.text(), LONG, "the bar")
    gate.open()
    assert follower.wait(LONG) == 0
    assert follower.stdout is not None
    assert follower.stdout.read() == '"ground"\n'
    eventually_sync(lambda: hung().get("status") == "False", LONG, "its worker moving again", 0.1)


def test_what_a_handler_tells_is_an_event_of_its_worker(works: Works) -> None:
    make(works, "teller", "teller", ["DiskSlow", "writes take 2 s"])
    worker = works.reaches("teller", "Succeeded")["worker"]

    def told() -> list[Body]:
        events = works.kube.list("events")
        return [one for one in events if one["involvedObject"]["name"] == worker and one["reason"] == "DiskSlow"]

    [event] = eventually_sync(told, LONG, "the Event")
    assert (event["involvedObject"]["kind"], event["type"]) == ("Worker", "Normal")
    assert (event["message"], event["count"]) == ("writes take 2 s", 1)


class Screen:
    """What a terminal was sent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._seen = descriptor, b""
        os.set_blocking(descriptor, False)

    def text(self) -> str:
        try:
            while more := os.read(self._descriptor, 65536):
                self._seen += more
        except OSError:  # nothing more just now, or the other side has closed it
            pass
        return self._seen.decode(errors="replace")


def follow_on_a_terminal(works: Works, task: str) -> tuple[Screen, "subprocess.Popen[str]"]:
    """`millpond follow` with a terminal for its stderr: there it draws."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    words = command(works.kube, "follow", task)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment)
    os.close(theirs)
    return Screen(ours), process
