"""The tree shows who stands below whom, in what state, and why the last restarts were."""

from datetime import UTC, datetime
from io import StringIO
from typing import Any

from millpond_cli.trees import Branch, Found, draw, make_branches
from rich.console import Console

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CRASH = {
    "at": "2026-01-02T03:03:55.000000Z",
    "child": "workerPool/a",
    "reason": "OOMKilled",
    "message": "raise resources.limits.memory",
    "worker": "a-x",
    "exitCode": 137,
    "tasks": ["t1"],
}


def make(name: str, spec: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec or {}, "status": status}


def tree_of(name: str = "") -> list[Branch]:
    spec = {"strategy": "OneForAll", "intensity": 3, "period": "5m"}
    leaf_children = [
        {"name": "workerPool/a", "state": "Running"},
        {"name": "workerPool/none", "state": "Missing", "message": "there is no workerPool none"},
    ]
    leaf = make("leaf", spec, state="Running", parent="root", restarts=1, children=leaf_children, lastRestarts=[CRASH])
    root = make("root", spec, state="Running", children=[{"name": "supervisor/leaf", "state": "Running"}])
    paused = {"type": "Paused", "status": "True", "message": "paused by supervisor x: why"}
    pools = [make("a", readyReplicas=1, desired=2, lag=7), make("free", mode="Paused", conditions=[paused])]
    workers = [make("a-x", {"pool": "a"}, state="Failed", reason="OOMKilled"), make("w", {"pool": "other"})]
    return make_branches(Found([leaf, root], pools, workers), NOW, name)


def text_of(branches: list[Branch]) -> str:
    console = Console(file=StringIO(), width=200)
    for branch in branches:
        console.print(draw(branch))
    out = console.file
    assert isinstance(out, StringIO)
    return out.getvalue()


def test_children_stand_below_their_supervisor_and_free_pools_beside_the_roots() -> None:
    root, free = tree_of()
    assert (root.name, free.name) == ("root", "free")
    (leaf,) = root.below
    assert [(one.kind, one.name, one.state) for one in leaf.below] == [
        ("pool", "a", "Running"),
        ("workerPool", "none", "Missing"),
    ]
    assert [one.name for one in leaf.below[0].below] == ["a-x"]


def test_a_restart_is_told_with_its_cause() -> None:
    text = text_of(tree_of("leaf"))
    told = "10s ago: workerPool/a: OOMKilled (worker a-x, exit code 137, ran t1): raise resources.limits.memory"
    assert told in text
    assert "1 of 3 restarts in 5m" in text
    assert "root" not in text


def test_a_pool_that_is_paused_says_by_whom() -> None:
    assert "paused by supervisor x: why" in text_of(tree_of())


def test_a_supervisor_that_is_not_there_has_no_tree_and_one_without_status_has() -> None:
    assert tree_of("nobody") == []
    assert "supervisor/new" in text_of(make_branches(Found([make("new")], [], []), NOW))


def test_the_tree_is_plain_data_too() -> None:
    data = tree_of()[0].to_data()
    assert data["children"][0]["children"][0]["children"][0]["name"] == "a-x"
