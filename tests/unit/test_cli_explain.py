"""What is told of a pool is the operator's own sentence, word for word, with what stands beside it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from millpond_cli.commands.explain import pool_name
from millpond_cli.errors import CliError
from millpond_cli.explaining import tell_pool, tell_record
from millpond_cli.ledger import Span, read_file
from millpond_cli.main import app
from millpond_cli.manifests import parse_past
from millpond_scaling import Memory, Observation, Policy, Step, decide
from millpond_scaling.records import Record, encode
from typer.testing import CliRunner

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SENTENCE = "50 waiting and 0 in flight need 4 workers (maxWorkers; 50 would be needed)"


def pool(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "census"}, "spec": {"replicas": 3}, "status": status}


def record(second: int, **policy: Any) -> Record:
    seen, rules = Observation(50, 0, 0), replace(Policy(max_workers=4), **policy)
    decision = decide(seen, rules, Memory(), float(second))
    at = (NOW + timedelta(seconds=second)).isoformat()
    return Record(at, float(second), rules, seen, Memory(), decision, True, "ns", "census")


def test_the_condition_s_sentence_is_told_unchanged() -> None:
    conditions = [{"type": "Scaling", "status": "True", "reason": "ScaleUp", "message": SENTENCE}]
    story = tell_pool(pool(desired=4, readyReplicas=1, workers={"starting": 3, "idle": 1}, conditions=conditions), NOW)
    assert story.lines[0] == "census: 4 workers asked for, 1 ready (3 starting, 1 idle)"
    assert story.lines[1] == SENTENCE


def test_what_is_wrong_and_who_holds_the_number_is_told() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "WorkersStarting", "message": "1 of 4 workers are ready"},
        {"type": "Degraded", "status": "True", "reason": "ImagePullBackOff", "message": "worker w: no such image"},
        {"type": "Limited", "status": "False", "reason": "Enough"},
    ]
    text = "\n".join(tell_pool(pool(mode="Manual", conditions=conditions), NOW).lines)
    assert "kubectl scale set 3" in text
    assert "Degraded: ImagePullBackOff: worker w: no such image" in text
    assert "Not ready: WorkersStarting: 1 of 4 workers are ready" in text
    assert "Limited" not in text


def test_how_the_forecast_stands_is_told() -> None:
    assert "the forecast learns" in tell_pool(pool(forecast="the forecast learns"), NOW).lines


def test_a_pool_without_a_status_is_said_to_have_none() -> None:
    assert "is the operator running?" in tell_pool({"metadata": {"name": "p"}}, NOW).lines[0]


def test_the_last_changes_are_a_table_with_their_sentences() -> None:
    entry = {"at": "2026-01-02T03:03:05Z", "from": 0, "to": 4, "reason": "ScaleUp", "message": SENTENCE}
    section = tell_pool(pool(decisions=[entry]), NOW).sections[0]
    assert section.rows[0].cells == ("1m", "0", "4", "ScaleUp", "", SENTENCE)
    shadow = tell_pool(pool(decisions=[{**entry, "acted": False, "clamp": "maxWorkers"}]), NOW).sections[0]
    assert shadow.rows[0].cells == ("1m", "0", "(4)", "ScaleUp", "maxWorkers", SENTENCE), "what it would have done"


def test_a_recorded_decision_is_told_with_its_rules() -> None:
    found = record(0)
    steps = (Step("lagPerSlot", 50, "50 waiting need 50"), Step("maxWorkers", 4, "allows 4"))
    story = tell_record(replace(found, decision=replace(found.decision, steps=steps)), NOW + timedelta(seconds=3))
    assert story.lines[0].startswith("census: 4 workers, from 0 (ScaleUp, 2026-01-02T03:04:05+00:00, 3.0 s before)")
    assert story.lines[1] == found.decision.message
    assert [row.cells for row in story.sections[0].rows] == [
        ("lagPerSlot", "50", "", "50 waiting need 50"),
        ("maxWorkers", "4", "-46", "allows 4"),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"shadow": True}, "Shadow mode"), ({"pause": "All"}, "keeps its number"), ({"manual": 2}, "set by hand")],
)
def test_why_a_decision_was_held_is_told(change: dict[str, Any], says: str) -> None:
    assert any(says in line for line in tell_record(record(0, **change), NOW).lines)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("-10m", NOW - timedelta(minutes=10)),
        ("90s", NOW - timedelta(seconds=90)),
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_past_moment_is_a_time_or_a_duration_ago(text: str, moment: datetime) -> None:
    assert parse_past(text, "--at", NOW) == moment


@pytest.mark.parametrize(
    ("names", "name"), [(["census"], "census"), (["pool", "census"], "census"), (["wp/census"], "census")]
)
def test_a_pool_is_named_as_kubectl_names_it(names: list[str], name: str) -> None:
    assert pool_name(names) == name


@pytest.mark.parametrize("names", [["task", "x"], ["a", "b", "c"], ["worker/x"]])
def test_only_pools_are_explained(names: list[str]) -> None:
    with pytest.raises(CliError, match="only pools"):
        pool_name(names)


# ---- replay


def write(path: Path, records: list[Record], rest: bytes = b"") -> Path:
    path.write_bytes(b"".join(encode(one) + b"\n" for one in records) + rest)
    return path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["replay", *arguments])


def test_records_made_again_are_identical_and_the_exit_code_says_so(tmp_path: Path) -> None:
    done = run("--file", str(write(tmp_path / "l", [record(s) for s in range(5)])))
    assert (done.exit_code, "5 identical, 0 different" in done.stdout) == (0, True), done.output


def test_a_decision_that_comes_out_otherwise_is_told_and_is_exit_code_1(tmp_path: Path) -> None:
    wrong = record(1)
    wrong = replace(wrong, decision=replace(wrong.decision, target=3))
    done = run("--file", str(write(tmp_path / "l", [record(0), wrong])))
    assert done.exit_code == 1
    assert "1 identical, 1 different" in done.stdout
    assert "ns/census  0 → 4 instead of 3" in done.stdout


def test_what_if_tells_what_another_bound_would_have_decided(tmp_path: Path) -> None:
    done = run("census", "--file", str(write(tmp_path / "l", [record(0)])), "--set", "scaling.maxWorkers=40")
    assert done.exit_code == 0, done.output
    assert "another number in 1 of them" in done.stdout
    assert done.stdout.splitlines()[2].split()[2:5] == ["0", "4", "40"]


def test_a_line_that_is_no_record_is_named_and_is_exit_code_1(tmp_path: Path) -> None:
    done = run("--file", str(write(tmp_path / "l", [record(0)], b'{"v": 9}\n')))
    assert done.exit_code == 1
    assert "line 2: version 9" in done.stderr


def test_no_record_at_all_is_no_success(tmp_path: Path) -> None:
    assert run("--file", str(write(tmp_path / "l", []))).exit_code == 1


def test_what_is_saved_can_be_read_again_and_a_span_narrows_it(tmp_path: Path) -> None:
    source = write(tmp_path / "l", [record(s) for s in range(10)])
    since, until = (NOW + timedelta(seconds=2)).isoformat(), (NOW + timedelta(seconds=4)).isoformat()
    done = run("--file", str(source), "--save", str(tmp_path / "s"), "--since", since, "--until", until)
    assert done.exit_code == 0
    assert read_file(tmp_path / "s", Span()).records == [record(2), record(3), record(4)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a pool"),
        (["--file", "/does/not/exist"], "cannot be read"),
        (["p", "--set", "scaling.maxWorkers"], "FIELD=VALUE"),
        (["p", "--set", "scaling.maxFrogs=3"], "cannot be set here"),
        (["p", "--since", "yesterday"], "--since"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(arguments: list[str], says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert says in done.stderr
