"""The demo's path at small size: the census of the standard library from zero workers and back to zero."""

import os
from pathlib import Path

import pytest
import yaml

from tests.support.kube import Body
from tests.support.stage import Stage, phase, status_of, was_interrupted

EXAMPLE = Path(__file__).parents[2] / "examples" / "stdlib-census"
LIMIT = int(os.environ.get("LIMIT") or 40)


@pytest.mark.alone
def test_census_scales_from_zero_and_back_without_stopping_a_busy_worker(stage: Stage) -> None:
    for name in ("pool.yaml", "files.yaml"):
        stage.kube.apply(yaml.safe_load((EXAMPLE / name).read_text()))
    files = stage.wait_ended(["census-files"])["census-files"]["result"]
    assert len(files) > 500, "the standard library has hundreds of files"
    chosen = files[:LIMIT]
    names = stage.submit("census.parse", *([path] for path in chosen), pool="census")
    tasks = stage.wait_ended(names)
    failed = [status for status in tasks.values() if phase(status) != "Succeeded"]
    assert not [status for status in failed if not status["error"]["message"]], "a failed file says why"
    assert not [status for status in tasks.values() if was_interrupted(status)]

    ids = [tasks[name]["taskId"] for name in names]
    (report,) = stage.submit("census.report", ["census", ids], pool="census")
    result = stage.wait_ended([report])[report]["result"]
    assert result["files"] == len(names)
    assert result["parsed"] == len(names) - len(failed)

    stage.wait(lambda: stage.replicas("census") == 0 and not stage.pods("census"), "back at zero")
    assert not [name for name, status in stage.workers().items() if _ended_busy(status)]
    decisions = stage.wait(lambda: _decisions_down_to_zero(stage), "the decision for zero in the ledger")
    woken = [decision for decision in decisions if decision["from"] == 0]
    assert woken, decisions
    stage.say(f"woken by {woken[-1]['message']!r}, {woken[-1]['inputs'].get('wakeDelayMs')} ms after the first publish")


def test_a_file_that_is_no_python_ends_as_failed_with_the_parsers_words(stage: Stage) -> None:
    stage.kube.apply(yaml.safe_load((EXAMPLE / "pool.yaml").read_text()))
    (name,) = stage.submit("census.parse", ["no/such/file.py"], pool="census")
    stage.kube.kubectl("wait", "--for=condition=Failed", f"task/{name}", "--timeout=150s")
    body = stage.kube.get("tasks", name)
    assert status_of(body)["error"]["type"] == "Unparsable"
    assert "No such file" in status_of(body)["message"]
    assert status_of(body)["attempts"] == 1, "trying again would not change that"


def _decisions_down_to_zero(stage: Stage) -> list[Body]:
    """The ledger, newest first, once it ends with zero (it is written a moment after the Deployment)."""
    decisions: list[Body] = stage.pool("census")["decisions"]
    return decisions if decisions[0]["to"] == 0 else []


def _ended_busy(worker: Body) -> bool:
    return bool(worker.get("inFlight")) and worker["state"] in ("Stopped", "Failed", "Lost")
