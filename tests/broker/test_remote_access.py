"""What a worker outside the cluster is let in with: least rights do and are bound to its pool; secrets stay unseen."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats.errors
import pytest
from millpond import Access, BrokerRefused, Client
from millpond_api import subjects
from millpond_api.broker import QueueConfig
from millpond_api.remote import format_rights, make_rights
from millpond_cluster.local.certificates import ensure_certificates
from nats.aio.client import Client as Connection

from tests.support.credentials import Realm
from tests.support.eventually import eventually
from tests.support.joining import join, make_told, tell
from tests.support.nats import NatsServer, ensure_pool
from tests.support.workers import LEASE, START, Mill, running_mill

SECRET = "grist-4711"


def make_config(namespace: str) -> str:
    """An administrator, and two remote workers of the pool `mill`: `clerk` has the rights for limits, too."""
    users = {"box": make_rights(namespace, "mill"), "clerk": make_rights(namespace, "mill", limits=True)}
    remote = ",".join(
        f'{{ user: {name}, password: "{SECRET}", {format_rights(rights)} }}' for name, rights in users.items()
    )
    return f'authorization {{ users: [ {{ user: admin, password: "{SECRET}" }}, {remote} ] }}'


@pytest.fixture
def server(namespace: str) -> Iterator[NatsServer]:
    found = NatsServer(config=make_config(namespace), login=f"admin:{SECRET}").start()
    yield found
    found.remove()


@pytest.fixture
async def guarded(server: NatsServer, namespace: str, tmp_path: Path) -> AsyncIterator[Mill]:
    queue = QueueConfig(namespace, "mill", lease=LEASE, lanes=4)
    async with running_mill(server, queue, tmp_path) as found:
        yield found


def command_lines(pid: int) -> str:
    """What `ps` shows of a process and of all that it has started."""
    text = Path(f"/proc/{pid}/cmdline").read_text()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return text + "".join(command_lines(int(child)) for child in children)


async def test_a_worker_with_the_printed_rights_lives_its_whole_life_and_shows_no_secret(guarded: Mill) -> None:
    fair = {"queue": {"fairness": {"lanes": 4}}, "isolation": {"mode": "Auto"}}
    await tell(guarded, make_told(guarded, concurrency=4, **fair))
    url = f"nats://box:{SECRET}@127.0.0.1:{guarded.server.port}"
    worker = join(guarded, "box", url=url)
    await guarded.reaches(worker, "Idle", passed=True)
    client, pool = guarded.client, guarded.queue.pool
    assert await (await client.submit(pool, "flaky", [3])).result(timeout=START) == 3
    assert len(await (await client.submit(pool, "huge", [300_000])).result(timeout=START)) == 300_000
    handles = [await client.submit(pool, "echo", [n], fair=f"k{n}") for n in range(6)]
    assert [await handle.result(timeout=START) for handle in handles] == list(range(6))
    refused = await client.submit(pool, "refuse")
    await guarded.dead_letter(refused.id)
    gate = guarded.gate("g")
    cancelled = await client.submit(pool, "gate", [gate.path])
    await gate.entered()
    await cancelled.cancel("not any more")
    assert SECRET not in command_lines(worker.process.pid)
    await tell(guarded, make_told(guarded, concurrency=2, **fair))

    async def renewed() -> bool:
        return (await guarded.next_beat("box")).slots == 2

    await eventually(renewed, START, "the worker with the new settings")
    other = guarded.gate("other")
    released = await client.submit(pool, "gate", [other.path])
    await other.entered()
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await guarded.story(released.id))[-1] == "Queued(1)@box"
    said = worker.text()
    assert SECRET not in said
    assert "ermissions" not in said, said


async def test_the_rights_for_limits_do_for_a_rate_and_for_places_of_a_key(guarded: Mill) -> None:
    limits = {"rateLimit": {"rate": "1000/s", "perKey": "500/s"}, "concurrencyLimits": {"perKey": 1}}
    await tell(guarded, make_told(guarded, concurrency=4, **limits))
    worker = join(guarded, "clerk", MILLPOND_NATS_USER="clerk", MILLPOND_NATS_PASSWORD=SECRET)
    gate = guarded.gate("g")
    client, pool = guarded.client, guarded.queue.pool
    first = await client.submit(pool, "gate", [gate.path], key="k", rate_key="r")
    await gate.entered()
    others = [await client.submit(pool, "echo", [number], key="k", rate_key="r") for number in range(3)]

    async def parked() -> bool:
        return all([await guarded.story(one.id) for one in others])

    await eventually(parked, START, "three tasks put aside")
    gate.open()
    assert await first.result(timeout=START) == "clerk attempt 1"
    assert sorted([await one.result(timeout=START) for one in others]) == [0, 1, 2]
    assert "ermissions" not in worker.text(), worker.text()


async def test_these_rights_reach_no_other_pools_queue_and_nobody_elses_answers(guarded: Mill) -> None:
    namespace = guarded.queue.namespace
    await ensure_pool(guarded.server.url, QueueConfig(namespace, "other"))
    await guarded.client.submit("other", "echo", ["secret"])
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error))

    box = Connection()
    prefix = subjects.remote_inbox(namespace, "mill")
    await box.connect(
        guarded.server.bare_url, user="box", password=SECRET, inbox_prefix=prefix, error_cb=note, allow_reconnect=False
    )
    stream = subjects.pool_stream(namespace, "other")
    asks = [
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.class-default",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.STREAM.DELETE.{subjects.pool_stream(namespace, 'mill')}",
        subjects.tasks(namespace, "other", "default"),
        subjects.rpc(namespace, "other", "w", "drain"),
    ]
    for ask in asks:
        with pytest.raises((nats.errors.TimeoutError, asyncio.TimeoutError)):
            await box.request(ask, b'{"seq":1}', timeout=1.0)
    for subject in ("_INBOX.>", f"mp.feed.task.{namespace}.other.*", "mp.>"):
        await box.subscribe(subject)
    await box.flush(timeout=30)

    async def all_refused() -> bool:
        return len([one for one in refusals if "permissions violation" in one]) >= len(asks) + 3

    await eventually(all_refused, START, f"{len(asks) + 3} refusals")
    await box.close()


@pytest.mark.parametrize("wrong", [{"MILLPOND_NATS_USER": "box", "MILLPOND_NATS_PASSWORD": "wrong-4712"}, {}])
async def test_credentials_that_nats_refuses_end_it_with_a_sentence_that_holds_no_secret(
    guarded: Mill, wrong: dict[str, str]
) -> None:
    worker = join(guarded, "box", **wrong)
    assert await worker.ended() == 2
    assert "does not let in " + ("user 'box'" if wrong else "nobody") in worker.text()
    assert "wrong-4712" not in worker.text()


async def test_a_client_says_at_once_that_its_credentials_are_refused(guarded: Mill) -> None:
    with pytest.raises(BrokerRefused, match="does not let in user 'box'"):
        async with Client.connect(guarded.server.bare_url, access=Access(user="box", password="no")):
            pass


async def test_a_client_is_let_in_by_what_the_environment_says(guarded: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_NATS_USER", "admin")
    monkeypatch.setenv("MILLPOND_NATS_PASSWORD", SECRET)
    async with Client.connect(guarded.server.bare_url, namespace=guarded.queue.namespace) as client:
        assert [letter async for letter in client.dead().list()] == []


async def test_a_credentials_file_and_tls_let_in_the_worker_its_keeper_and_its_understudy(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a call into C holds its interpreter, only the understudy can say that the worker lives: it signs itself."""
    realm = Realm.make()
    ensure_certificates(tmp_path / "pki", "here", ["127.0.0.1"])
    authority, served = tmp_path / "pki" / "ca.crt", tmp_path / "pki" / "apiserver"
    monkeypatch.setenv("MILLPOND_NATS_CREDS", realm.write_user(tmp_path / "all.creds"))
    monkeypatch.setenv("MILLPOND_NATS_CA", str(authority))
    tls = f'tls {{ cert_file: "{served}.crt", key_file: "{served}.key" }}'
    server = NatsServer(config=f"{realm.config()}\n{tls}\n").start()
    try:
        async with running_mill(server, QueueConfig(namespace, "mill", lease=LEASE), tmp_path) as mill:
            await tell(mill, make_told(mill, app="tests.support.isolated_app:app"))
            rights = make_rights(namespace, "mill")
            creds = realm.write_user(tmp_path / "box.creds", *rights)
            worker = join(mill, "box", "--creds", creds, "--ca", str(authority))
            await mill.reaches(worker, "Idle", passed=True)
            task = await mill.client.submit(mill.queue.pool, "thread.hold-gil", [3 * LEASE])
            assert await task.result(timeout=START) == "held"
            assert "Starved" in [event.reason for event in await mill.states("box")]
            assert await mill.story(task.id) == ["Running(1)@box", "Succeeded(1)@box"]
            assert "ermissions" not in worker.text(), worker.text()
    finally:
        server.remove()
