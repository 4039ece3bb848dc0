"""Traces: generated ones are what they say and the same for a seed; CSV is read as written or refused by line."""

import math
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_cli.main import app
from millpond_scaling.simulate import Arrival
from millpond_scaling.simulate.chance import Chance
from millpond_scaling.simulate.traces import SHAPES, Service, TraceError, generate, read_csv
from typer.testing import CliRunner

CONSTANT = Service(2.0, 0.0)


def read(text: str) -> list[Arrival]:
    return read_csv(text.splitlines(), 1, CONSTANT)


def test_a_line_s_tasks_are_spread_up_to_the_next_line_and_time_begins_at_the_first() -> None:
    assert read("time,count,service\n100,2,\n104,1,9.5\n") == [
        Arrival(0.0, 2.0), Arrival(2.0, 2.0), Arrival(4.0, 9.5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no line of time,count"),
        ("time,count\n", "no line of time,count"),
        ("1,x\n", "line 1 is not time,count"),
        ("1\n", "line 1 is not"),
        ("5,1\n3,1\n", "sort the lines by time"),
        ("1,-1\n", "line 1: count must not be negative"),
        ("1,1,0\n", "service must be greater than 0"),
        ("inf,1\n", "line 1"),
    ],
)
def test_a_wrong_line_is_named(text: str, says: str) -> None:
    with pytest.raises(TraceError) as refused:
        read(text)
    assert says in str(refused.value)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 20)), min_size=1, max_size=20))
def test_no_task_of_a_file_is_lost_and_all_come_in_order(rows: list[tuple[float, int]]) -> None:
    rows.sort()
    arrivals = read("\n".join(f"{at!r},{count}" for at, count in rows))
    assert len(arrivals) == sum(count for _, count in rows)
    assert [one.at for one in arrivals] == sorted(one.at for one in arrivals)


@pytest.mark.parametrize("name", SHAPES)
def test_a_named_trace_is_the_same_for_a_seed_in_order_and_another_for_another(name: str) -> None:
    first = generate(name, 1)
    assert first == generate(name, 1)
    assert first != generate(name, 2)
    assert [one.at for one in first] == sorted(one.at for one in first)
    assert min(one.service for one in first) > 0


def test_the_shapes_are_what_they_are_called() -> None:
    steady = generate("steady", 1)
    assert len(steady) == pytest.approx(7200, rel=0.05)
    day = generate("diurnal", 1)
    assert sum(1 for one in day if 3000 < one.at < 4200) > 20 * sum(1 for one in day if one.at < 600)
    spike = generate("spike", 1)
    assert sum(1 for one in spike if 600 <= one.at < 620) == pytest.approx(800, rel=0.15)
    assert len(generate("herd", 1)) == 900
    bursty = generate("bursty", 1)
    gaps = sorted(later.at - earlier.at for earlier, later in pairwise(bursty))
    assert median(gaps) < 0.3 < 30 < gaps[-1]


def test_chance_has_the_distributions_that_it_names() -> None:
    chance = Chance(1, "test")
    waits = [chance.exponential(4.0) for _ in range(20_000)]
    assert fmean(waits) == pytest.approx(4.0, rel=0.05)
    times = [chance.lognormal(3.0, 0.5) for _ in range(20_000)]
    assert median(times) == pytest.approx(3.0, rel=0.05)
    assert fmean(times) == pytest.approx(3.0 * math.exp(0.125), rel=0.05)
    assert chance.lognormal(3.0, 0.0) == 3.0


def test_a_seed_s_stream_is_pinned_so_that_committed_figures_hold_on_every_python() -> None:
    chance = Chance(1, "arrivals")
    assert [round(chance.uniform(), 12) for _ in range(3)] == [
        0.702122047289, 0.934070025221, 0.710675766339
    ]  # fmt: skip


# ---- the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *arguments])


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_of_arrivals_is_played_through_the_policies(tmp_path: Path) -> None:
    trace = write(tmp_path / "t.csv", "0,30\n10,30\n20,0\n")
    done = run(trace, "--set", "scaling.maxWorkers=7", "--json", "--plot", str(tmp_path / "p.svg"))
    assert done.exit_code == 0, done.output
    figures = orjson.loads(done.stdout)
    assert (figures["tasks"], len(figures["outcomes"])) == (60, 7)
    assert max(one["peak"] for one in figures["outcomes"]) == 7
    assert (tmp_path / "p.svg").read_text().startswith("<svg")


def test_the_table_has_a_line_for_each_policy_and_the_plot_too(tmp_path: Path) -> None:
    trace = write(tmp_path / "t.csv", "0,5\n")
    done = run(trace, "--policy", "keda", "--policy", "millpond", "--service", "4s")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith(("KEDA", "Mill"))] == [
        "KEDA", "Millpond", "KEDA", "Millpond"
    ]  # fmt: skip


def test_a_pool_s_manifest_gives_the_policy_and_the_slots(tmp_path: Path) -> None:
    pool = {
        "kind": "WorkerPool",
        "metadata": {"name": "p"},
        "spec": {"image": "i", "app": "a:b", "concurrency": 4, "scaling": {"maxWorkers": 2, "mode": "Shadow"}},
    }
    file = write(tmp_path / "pool.yaml", orjson.dumps(pool).decode())
    done = run(write(tmp_path / "t.csv", "0,40\n"), "--pool", file, "--json", "--policy", "millpond")
    assert done.exit_code == 0, done.output
    assert orjson.loads(done.stdout)["outcomes"][0]["peak"] == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frogs"], "none of steady"),
        (["steady", "--policy", "frogs"], "--policy 'frogs'"),
        (["steady", "--set", "scaling.frogs=1"], "cannot be set here"),
        (["steady", "--service", "long"], "--service"),
        (["steady", "--pool", "/does/not/exist"], "cannot be read"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, says in done.stderr) == (1, True), done.stderr
