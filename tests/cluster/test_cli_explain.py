"""`millpond explain` and `replay` on a real API server and a real ledger: the condition's words, the same again."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.test_cli_command import millpond
from tests.support.eventually import eventually_sync
from tests.support.kube import Body, Kube, condition
from tests.support.works import LONG, Works

SCALEDOBJECTS = Path(__file__).parents[1] / "unit" / "scaledobjects"


@pytest.fixture
def decided(works: Works, pool: str) -> str:
    """A pool that a bound keeps from what its queue needs."""
    works.make_pool(pool, scaling={"maxWorkers": 2})
    for number in range(5):
        works.make_task(f"{pool}-{number}", pool)
    works.scales_to(pool, 2)
    eventually_sync(lambda: "need 5" in sentence(works, pool), LONG, "all tasks in the condition")
    eventually_sync(lambda: decisions(works, pool), LONG, "the change in the status, which is written after it")
    return pool


def decisions(works: Works, pool: str) -> list[Body]:
    return list((works.kube.get("workerpools", pool).get("status") or {}).get("decisions") or [])


def sentence(works: Works, pool: str) -> str:
    return str(condition(works.kube.get("workerpools", pool), "Scaling").get("message", ""))


def test_explain_says_what_the_condition_says_word_for_word(works: Works, decided: str) -> None:

    def explain() -> list[str]:
        """What it prints, if the condition said the same before or after: it follows the queue and the pods."""
        before = sentence(works, decided)
        done = millpond(works.kube, "explain", "pool", decided, "--full", "--nats", works.server.url)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[1] in (before, sentence(works, decided))
        return lines

    lines = eventually_sync(explain, LONG, "the condition's own words")
    assert "maxWorkers allows 2" in lines[1]
    steps = lines[lines.index("How the number came about:") + 2 :]
    assert any(line.split()[:2] == ["maxWorkers", "2"] for line in steps), steps


def test_explain_tells_the_decision_of_a_moment_that_the_status_names(works: Works, decided: str) -> None:
    entry = decisions(works, decided)[-1]
    # The status has a decision's time to the millisecond or finer, the record to the millisecond.
    done = millpond(works.kube, "explain", decided, "--at", entry["at"], "--nats", works.server.url)
    assert done.returncode == 0, done.stderr
    early = millpond(works.kube, "explain", decided, "--at", "2020-01-01T00:00:00Z", "--nats", works.server.url)
    assert early.returncode == 1
    assert "holds no decision" in early.stderr


def test_what_was_decided_is_decided_again_and_what_if_answers(works: Works, decided: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    done = millpond(works.kube, "replay", decided, "--nats", works.server.url, "--save", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 different" in done.stdout
    other = millpond(works.kube, "replay", "--file", str(file), "--set", "scaling.maxWorkers=5")
    assert other.returncode == 0
    assert "another number in" in other.stdout
    assert "need 5 workers" in other.stdout


def test_explain_of_a_pool_that_is_not_there_is_one_sentence(kube: Kube) -> None:
    done = millpond(kube, "explain", "pool", "nobody")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "pool nobody does not exist" in done.stderr


def test_without_a_nats_to_forward_to_the_command_names_the_option(kube: Kube) -> None:
    done = millpond(kube, "replay", "nobody")
    assert done.returncode == 1
    assert "--nats" in done.stderr


@pytest.mark.parametrize("name", ["plain.yaml", "full.yaml", "formula.yaml"])
def test_an_imported_scaledobject_is_taken_by_the_api_server(kube: Kube, tmp_path: Path, name: str) -> None:
    for extra in ([], ["--defaults", "--concurrency", "4"]):
        done = millpond_import(str(SCALEDOBJECTS / name), *extra)
        file = tmp_path / "pool.yaml"
        pools = list(yaml.safe_load_all(done))
        file.write_text(yaml.safe_dump_all([{**one, "metadata": {"name": one["metadata"]["name"]}} for one in pools]))
        kube.kubectl("apply", "--dry-run=server", "-f", str(file))


def millpond_import(*words: str) -> str:
    line = [sys.executable, "-m", "millpond_cli.main", "import", "keda", *words, "--app", "a:app"]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
