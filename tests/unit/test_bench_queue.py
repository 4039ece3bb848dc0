"""The queue benchmark's figures: rates by the middle round, CPU for a task, goals by the measured ratio."""

import pytest

from bench.machine import Machine
from bench.queue.contenders import CONTENDERS, MILLPOND, PEERS, RAW, RAW_PROTOCOL
from bench.queue.environments import PEERS as PROGRAMS
from bench.queue.environments import read_version
from bench.queue.model import Entry, QueueProfile, QueueResult, Round, cpu_per_task, make_latency, rates
from bench.queue.page import describe, describe_profile, make_goal_lines
from bench.queue.profile import REST, classify


def result(**speeds: list[float]) -> QueueResult:
    """A run in which these contenders did so many tasks a second in their rounds."""
    names = {
        "millpond": MILLPOND.name,
        "raw": RAW.name,
        "arq": "arq",
        "celery": "celery (solo)",
        "pgqueuer": "pgqueuer",
    }
    rounds = [
        Round(contender=names[name], tasks=1000, seconds=1000 / rate, worker_cpu=0.2, server_cpu=0.1)
        for name, found in speeds.items()
        for rate in found
    ]
    machine = Machine(command="x", at="2026-01-01", commit="abc", machine="2 cores", load=(0.1, 0.2))
    missing = Entry(name="celery (solo)", version="1", server="redis", stored="", results="", promise="", slots=1)
    missing.missing = "there is no redis-server"
    return QueueResult(machine=machine, entries=[missing], rounds=rounds, latencies=[])


def test_a_rate_is_that_of_the_middle_round_whatever_the_outliers_did() -> None:
    found = rates(result(arq=[100, 1000, 120]))
    assert found["arq"] == pytest.approx(120)
    assert cpu_per_task(result(arq=[100]), "arq") == pytest.approx((200, 100))


@pytest.mark.parametrize(("peer", "raw", "verdicts"), [(100, 200, "held held"), (101, 300, "**missed** **missed**")])
def test_a_goal_is_held_only_by_the_measured_ratio(peer: float, raw: float, verdicts: str) -> None:
    lines = make_goal_lines(result(millpond=[150], raw=[raw], arq=[peer]))
    assert " ".join(line.split(":")[0] for line in lines if "the goal is" in line) == verdicts


def test_the_raw_loop_is_no_peer() -> None:
    assert "keeps results (arq)" in make_goal_lines(result(millpond=[150], raw=[1000], arq=[50]))[0]


def test_a_peer_that_keeps_no_results_stands_beside_the_goal_and_does_not_set_it() -> None:
    lines = make_goal_lines(result(millpond=[150], pgqueuer=[300], arq=[100]))
    assert lines[0].startswith("held: 1.50 × the best peer that keeps results (arq)")
    assert lines[-1] == "beside: 0.50 × the fastest peer that keeps no results (pgqueuer)"


def test_a_round_without_a_figure_is_named_on_the_page() -> None:
    found = result(millpond=[150])
    found.troubles.append("arq, round 1: no figure: the worker ended with 1")
    assert "* trouble: arq, round 1: no figure: the worker ended with 1" in describe(found)


def test_a_contender_that_could_not_run_is_named_with_the_reason() -> None:
    assert "not measured: there is no redis-server" in describe(result(millpond=[100]))


def test_the_task_that_started_the_worker_counts_for_no_latency() -> None:
    found = make_latency("arq", 10.0, [9.0, 0.001, 0.002, 0.003])
    assert (found.tasks, found.p50, found.most) == (3, 0.002, 0.003)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda one: one.name)
def test_every_contender_has_its_program_and_its_version_pinned(contender: object) -> None:
    assert contender in (MILLPOND, RAW, RAW_PROTOCOL, *PEERS)
    assert (PROGRAMS / contender.program).exists()  # type: ignore[attr-defined]
    assert bool(read_version(contender)) == (contender in PEERS)  # type: ignore[arg-type]


def test_a_sample_belongs_to_the_innermost_frame_that_has_a_kind_and_other_threads_to_none() -> None:
    main = "thread (7): MainThread;main (millpond/worker/__main__.py:54);run (uvloop/__init__.py:1)"
    found = classify(
        f"{main};run (millpond/worker/attempt.py:9);_collect (millpond/transport.py:5);helper (other/thing.py:1) 6\n"
        f"{main};writelines (asyncio/transport.py:3) 3\n"
        f"{main} 1\n"
        "thread (8): millpond-async-handlers-0;_run (millpond/worker/hosts.py:5) 90\n"
    )
    assert found == [("requests and their answers", 0.6), ("NATS' frames in and out, the socket", 0.3), (REST, 0.1)]


def test_the_profile_says_shares_of_the_main_thread_in_microseconds() -> None:
    machine = result(millpond=[1]).machine
    profile = QueueProfile(
        machine=machine,
        tasks=10,
        threads={"nats-server": 40.0, "main thread": 90.0},
        kinds=[(REST, 0.5)],
    )
    page = describe_profile(profile)
    assert "| 45.0 " in page
    assert page.index("main thread") < page.index("nats-server")


def test_the_bound_is_the_workers_cpu() -> None:
    lines = make_goal_lines(result(millpond=[2500]))
    assert "at 200 µs a task does at most 5,000 tasks/s, and did 50% of that" in lines[0]
