"""Every refusal reaches the person as one sentence that says what to do."""

import orjson
import pytest
from millpond_cli.cluster import split_name
from millpond_cli.errors import CliError, Conflict, Expired, NotFound, Unreachable, refusal
from millpond_cli.logreading import belongs, has_log, workers_of
from millpond_cli.main import app
from millpond_cli.submitting import Awaited, same_spec
from millpond_cli.watching import Gone, Set, Sync
from typer.testing import CliRunner


def status(message: str) -> bytes:
    return orjson.dumps({"kind": "Status", "message": message})


@pytest.mark.parametrize(
    ("code", "body", "kind", "says"),
    [
        (404, b"404 page not found\n", NotFound, "install the chart"),
        (404, status("the server could not find the requested resource"), NotFound, "install the chart"),
        (404, status('tasks.millpond.dev "t" not found'), NotFound, "does not exist"),
        (404, status('namespaces "n" not found'), NotFound, "create the namespace"),
        (409, status('tasks.millpond.dev "t" already exists'), Conflict, "exists already"),
        (410, status("too old resource version"), Expired, "too old"),
        (401, status("Unauthorized"), CliError, "credentials"),
        (403, status('User "x" cannot list resource "tasks"'), CliError, "cannot list"),
        (422, status('Task "t" is invalid: spec.handler: may hold only letters'), CliError, "spec.handler"),
        (503, b"no healthy upstream", Unreachable, "no healthy upstream"),
    ],
)
def test_refusal_becomes_a_sentence_of_its_kind(code: int, body: bytes, kind: type, says: str) -> None:
    error = refusal(code, body, "task t")
    assert type(error) is kind
    assert says in str(error)


def test_no_kubeconfig_is_one_sentence_and_exit_code_1() -> None:
    done = CliRunner().invoke(app, ["get", "pools", "--kubeconfig", "/does/not/exist"])
    assert done.exit_code == 1
    assert "set KUBECONFIG" in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get", "frogs"], "pools, tasks or workers"),
        (["get", "pools", "--phase", "Failed"], "pools have no phase"),
        (["submit", "p", "h", "--name", "a", "--generate-name", "b"], "exclude"),
        (["submit", "p", "h", "--timeout", "3s"], "belongs to --wait"),
        (["submit", "p", "h", "--delay", "3 parsecs"], "--delay"),
        (["submit", "p", "h", "arg", "--each", "-"], "exclude"),
        (["submit", "p", "h", "--each", "/does/not/exist"], "--each"),
    ],
)
def test_wrong_options_are_refused_without_a_cluster(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert says in done.stderr


def test_lost_answer_of_a_create_is_told_from_another_task_of_that_name() -> None:
    wanted = {"pool": "p", "handler": "h", "args": [1], "notBefore": "2026-01-01T00:00:00Z"}
    stored = {**wanted, "class": "default", "cancel": False, "notBefore": "2026-01-01T00:00:09Z"}
    assert same_spec(stored, wanted)
    assert not same_spec({**stored, "args": [2]}, wanted)
    assert not same_spec({"pool": "p", "handler": "h"}, wanted)


def test_wait_counts_tasks_that_ended_or_were_deleted() -> None:
    def task(name: str, phase: str) -> dict[str, object]:
        return {"metadata": {"name": name}, "status": {"phase": phase}}

    awaited = Awaited({"a", "b", "c"})
    awaited.apply(Sync("tasks", [task("a", "Running"), task("b", "Queued"), task("stranger", "Failed")]))
    assert awaited.open == {"a", "b"}, "c was gone before the wait began"
    awaited.apply(Set("tasks", task("a", "Succeeded")))
    awaited.apply(Gone("tasks", task("b", "Queued")))
    assert not awaited.open
    assert set(awaited.ended) == {"a", "b"}


def test_log_lines_of_other_tasks_are_left_out() -> None:
    ids = frozenset({"7f3a", "parse-a"})
    assert belongs('{"event": "started", "task": "7f3a"}', ids)
    assert not belongs('{"event": "started", "task": "other"}', ids)
    assert belongs("Traceback of 7f3a", ids)
    assert belongs("anything", frozenset())


def test_every_worker_that_ran_a_task_is_read_once() -> None:
    steps = [{"phase": "Running", "worker": "w1"}, {"phase": "Running", "worker": "w2"}, {"phase": "Queued"}]
    assert workers_of({"transitions": steps, "worker": "w2"}) == ["w1", "w2"]


def test_pod_that_has_not_started_has_no_log_yet() -> None:
    def pod(state: dict[str, object]) -> dict[str, object]:
        return {"status": {"containerStatuses": [{"name": "worker", "state": state}]}}

    assert not has_log({"status": {}})
    assert not has_log(pod({"waiting": {"reason": "ContainerCreating"}}))
    assert has_log(pod({"running": {}}))


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("x", "", "x"),
        ("task/x", "task", "x"),
        ("tasks/x", "task", "x"),
        ("task.millpond.dev/x", "task", "x"),
        ("workerpool.millpond.dev/x", "pool", "x"),
        ("mw/x", "worker", "x"),
        ("pod/x", "pod", "x"),
    ],
)
def test_names_are_taken_as_kubectl_prints_them(text: str, kind: str, name: str) -> None:
    assert split_name(text) == (kind, name)
