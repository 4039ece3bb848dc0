"""What is heard of 20,000 workers: a beat that says nothing new costs no parsing, and yet ends a silence."""

import time
import tracemalloc
from typing import Any, cast

import orjson
import pytest
from millpond_api import subjects
from millpond_api.events import Beat, InFlight, utc_now
from millpond_operator.broker.workers import FORGET_EVERY, BeatReader
from millpond_operator.cluster.cache import Key
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.workers import LOST_AFTER, Silence
from millpond_operator.handlers.workers import WorkerController
from millpond_operator.main import make_world
from millpond_operator.settings import Settings

POOL = PoolKey("default", "census")


def make_beat(state: str = "Idle") -> Beat:
    return Beat(state=state, at=utc_now(), started=utc_now(), slots=1, handlers=("census.parse",), incarnation="first")


class Ears:
    """Notes what a reader hands on."""

    def __init__(self) -> None:
        self.heard: list[tuple[PoolKey, str, Beat]] = []
        self.reader = BeatReader(lambda *said: self.heard.append(said))

    def read(self, beat: bytes, worker: str = "w1", now: float = 1.0) -> Beat:
        self.reader.read(f"mp.beat.default.census.{worker}", beat, now)
        return self.heard[-1][2]


def test_the_same_bytes_again_are_the_same_object_of_the_same_worker() -> None:
    ears, text = Ears(), make_beat().encode()
    assert ears.read(text) is ears.read(text)
    assert {said[:2] for said in ears.heard} == {(POOL, "w1")}


def test_news_and_another_workers_words_are_read() -> None:
    ears, text = Ears(), make_beat().encode()
    first = ears.read(text)
    assert ears.read(text, worker="w2") is not first
    assert ears.read(make_beat("Busy").encode()).state == "Busy"


def test_what_is_no_beat_is_refused_and_leaves_what_was_known() -> None:
    ears, text = Ears(), make_beat().encode()
    first = ears.read(text)
    with pytest.raises(ValueError, match="state"):
        ears.read(b"{}")
    assert ears.read(text) is first


def test_a_worker_that_is_gone_is_forgotten() -> None:
    ears, text = Ears(), make_beat().encode()
    first = ears.read(text, now=0.0)
    ears.read(text, worker="w2", now=2 * FORGET_EVERY)
    assert ears.read(text, now=2 * FORGET_EVERY) is not first


def make_hands() -> WorkerController:
    """A controller without doors: hearing opens none."""
    return WorkerController(make_world(Settings(), cast(Any, None), cast(Any, None)), cast(Any, None))


def pod(name: str) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "default",
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": "2030-01-01T00:00:00Z",
        "labels": {"millpond.dev/pool": "census"},
    }
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": meta, "spec": {"nodeName": "n"}, "status": status}


async def test_a_beat_that_says_nothing_new_ends_a_silence() -> None:
    hands, beat = make_hands(), make_beat()
    world = hands.world
    world.pods.observe("ADDED", pod("w1"))
    hands.on_beat(POOL, "w1", beat)
    assert world.crowd(POOL).in_flight == 0
    world.worker_memory[Key("default", "w1")].heard -= LOST_AFTER + 1
    hands.check_silence()
    assert world.crowd(POOL).in_flight is None
    assert world.crowd(POOL).states == {"Lost": 1}
    hands.on_beat(POOL, "w1", beat)
    assert world.worker_memory[Key("default", "w1")].silence is Silence.NONE
    assert world.crowd(POOL).in_flight == 0
    assert world.crowd(POOL).states == {"Idle": 1}


async def test_the_record_of_a_pool_is_kept_while_nothing_changes_and_made_anew_when_something_does() -> None:
    hands, beat = make_hands(), make_beat()
    world = hands.world
    world.pods.observe("ADDED", pod("w1"))
    hands.on_beat(POOL, "w1", beat)
    known = world.crowd(POOL)
    hands.on_beat(POOL, "w1", beat)
    hands.check_silence()
    assert world.crowd(POOL) is known
    hands.on_beat(POOL, "w1", make_beat("Busy"))
    assert world.crowd(POOL).states == {"Busy": 1}
    world.pods.observe("DELETED", pod("w1"))
    assert world.crowd(POOL).pods == 0


async def test_of_a_pod_that_is_gone_the_end_that_it_told_is_remembered() -> None:
    hands = make_hands()
    ended = pod("w1")
    terminated = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2030-01-01T00:00:30Z"}
    ended["status"] = {
        "phase": "Running",
        "containerStatuses": [{"name": "worker", "restartCount": 0, "state": {"terminated": terminated}}],
    }
    hands.world.pods.observe("ADDED", ended)
    hands.world.pods.observe("DELETED", ended)
    memory = hands.world.worker_memory[Key("default", "w1")]
    assert memory.gone
    assert memory.pod is not None
    assert memory.pod.ended is not None
    assert memory.pod.ended.reason == "OOMKilled"


class Shelf:
    """The API server's Worker objects, as far as making and deleting them goes."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def create(self, _plural: str, _namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(("create", manifest["metadata"]["name"]))
        return worker_object(manifest["metadata"]["name"])

    async def delete(self, _plural: str, _namespace: str, name: str, _uid: str) -> bool:
        self.asked.append(("delete", name))
        return True


def worker_object(name: str) -> dict[str, Any]:
    meta = {key: value for key, value in pod(name)["metadata"].items() if key != "labels"}
    return {"metadata": meta, "spec": {"pool": "census", "pod": name}}


async def test_many_pods_that_end_at_once_have_their_objects_deleted_once_and_none_made_again() -> None:
    shelf, names = Shelf(), [f"w{number}" for number in range(20)]
    world = make_world(Settings(), cast(Any, shelf), cast(Any, None))
    hands = WorkerController(world, cast(Any, None))
    spec = {"image": "mill:1", "app": "mill:app", "workerHistoryLimit": 2}
    world.pools.observe("ADDED", {"metadata": pod("census")["metadata"] | {"generation": 1}, "spec": spec})
    for name in names:
        world.pods.observe("ADDED", pod(name))
        world.workers.observe("ADDED", worker_object(name))
    for name in names:
        world.pods.observe("DELETED", pod(name))
    for name in names:
        await hands.reconcile(Key("default", name))
    assert [verb for verb, _ in shelf.asked] == ["delete"] * 18
    assert len(set(shelf.asked)) == 18


KEPT = 6_000
"""Bytes that may be kept of a busy worker, beside what malloc loses: 4.7 KB on Python 3.11. 20,000 of them are the most
of the 300 MB that an operator with 1,000 pools may take."""


async def hear_of(hands: WorkerController, reader: BeatReader, name: str) -> None:
    """All that the API server and NATS tell of a worker until it is busy, as bytes that are read anew."""
    worker = worker_object(name)
    worker["metadata"]["uid"] = f"{name}-of-the-object"
    hands.world.pods.observe("ADDED", orjson.loads(orjson.dumps(pod(name))))
    hands.world.workers.observe("ADDED", orjson.loads(orjson.dumps(worker)))
    running = [InFlight(task=f"task-of-{name}", handler="census.parse", since=utc_now())]
    busy = Beat(state="Busy", at=utc_now(), started=utc_now(), slots=1, in_flight=running, incarnation=name)
    for beat in (make_beat(), busy):
        reader.read(subjects.beat(*POOL, name), beat.encode(), time.monotonic())
    await hands.reconcile(Key("default", name))


async def test_a_worker_costs_the_operator_no_more_memory_than_its_share() -> None:
    hands, count = make_hands(), 500
    reader = BeatReader(hands.on_beat)
    await hear_of(hands, reader, "what-is-made-once")
    tracemalloc.start()
    try:
        for number in range(count):
            await hear_of(hands, reader, f"census-worker-5c9f7d6b4-{number:05d}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(hands.world.worker_status) == count + 1
    assert kept / count < KEPT
