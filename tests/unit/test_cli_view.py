"""The live picture shows what the API server holds, also after a watch broke, and is idle when all work ended."""

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from millpond_cli.view import Lines, View, render
from millpond_cli.watching import Down, Gone, Set, Sync
from rich.console import Console

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KINDS = {"workerpools": "WorkerPool", "tasks": "Task", "workers": "Worker"}


def make(plural: str, name: str, status: dict[str, Any] | None = None, pool: str = "census") -> Any:
    metadata = {"name": name, "namespace": "ns"}
    return {"kind": KINDS[plural], "metadata": metadata, "spec": {"pool": pool}, "status": status or {}}


def synced(pool_status: dict[str, Any] | None = None, tasks: list[Any] | None = None, pool: str = "") -> View:
    view = View(pool=pool)
    view.apply(Sync("workerpools", [make("workerpools", "census", pool_status)]))
    view.apply(Sync("workers", []))
    view.apply(Sync("tasks", tasks or []))
    return view


def text_of(view: View, height: int = 40) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(render(view, NOW, height))
    out = console.file
    assert isinstance(out, StringIO)
    return out.getvalue()


def test_object_deleted_during_a_broken_watch_vanishes_at_the_next_sync() -> None:
    view = synced()
    view.apply(Set("workers", make("workers", "w1", {"state": "Busy"})))
    view.apply(Down("workers", "the API cannot be reached"))
    assert "cannot be reached" in text_of(view)
    view.apply(Sync("workers", [make("workers", "w2", {"state": "Idle"})]))
    assert "w1" not in text_of(view)
    assert "w2" in text_of(view)
    assert "cannot be reached" not in text_of(view)


@pytest.mark.parametrize(
    ("status", "tasks"),
    [
        ({"lag": 1}, []),
        ({"inFlight": 1}, []),
        ({}, [make("tasks", "t")]),
        ({}, [make("tasks", "t", {"phase": "Backoff"})]),
    ],
    ids=["lag", "in flight", "task without status", "task in backoff"],
)
def test_open_work_is_never_idle(status: dict[str, Any], tasks: list[Any]) -> None:
    assert not synced(status, tasks).idle


def test_idle_when_every_task_ended_and_the_queue_is_empty() -> None:
    view = synced({"lag": 0}, [make("tasks", "a"), make("tasks", "b", {"phase": "Failed"})])
    view.apply(Set("tasks", make("tasks", "a", {"phase": "Succeeded"})))
    assert view.idle
    view.apply(Set("tasks", make("tasks", "c")))
    view.apply(Gone("tasks", make("tasks", "c")))
    assert view.idle


def test_idle_is_unknown_before_the_first_sync_and_while_the_server_is_away() -> None:
    assert not View().idle
    view = synced()
    view.apply(Down("tasks", "away"))
    assert not view.idle


def test_other_pools_work_does_not_keep_a_pool_from_being_idle() -> None:
    view = synced({"lag": 0}, [make("tasks", "t", pool="other")], pool="census")
    view.apply(Set("workerpools", make("workerpools", "other", {"lag": 5})))
    view.apply(Set("workers", make("workers", "stranger", {"state": "Busy"}, pool="other")))
    assert view.idle
    assert "stranger" not in text_of(view)


def test_more_workers_than_fit_are_counted() -> None:
    view = synced()
    for number in range(30):
        view.apply(Set("workers", make("workers", f"w{number:02}", {"state": "Idle"})))
    shown = text_of(view, height=14)
    assert "more workers" in shown
    assert len(shown.splitlines()) <= 14


def test_worker_that_ended_stays_readable_for_a_while_only() -> None:
    view = synced()
    view.apply(Set("workers", make("workers", "just", {"state": "Failed", "since": "2026-01-02T03:04:00Z"})))
    view.apply(Set("workers", make("workers", "long-ago", {"state": "Stopped", "since": "2026-01-02T03:00:00Z"})))
    assert "just" in text_of(view)
    assert "long-ago" not in text_of(view)


def test_a_pipe_gets_each_change_once() -> None:
    view, lines = synced({"lag": 5, "mode": "Auto", "decisions": [{"message": "0 → 1: woken"}]}), Lines()
    first = list(lines.news(view))
    assert first == [
        "census: lag 5 (0 waiting, 0 in flight), workers 0 of 0 ready, 0 busy, Auto",
        "census: 0 → 1: woken",
    ]
    assert list(lines.news(view)) == []
    view.apply(Set("workers", make("workers", "w", {"state": "Failed", "reason": "OOMKilled"})))
    assert list(lines.news(view)) == ["  w: Failed (OOMKilled)"]


def test_narrow_terminal_cuts_only_what_workers_run() -> None:
    view = synced()
    running = [{"task": "parse-" + "x" * 200, "handler": "h"}]
    view.apply(Set("workers", make("workers", "census-worker-abc", {"state": "Busy", "running": running})))
    console = Console(file=StringIO(), width=80)
    console.print(render(view, NOW, 40))
    out = console.file
    assert isinstance(out, StringIO)
    row = next(line for line in out.getvalue().splitlines() if "census-worker-abc" in line)
    assert "Busy" in row
    assert row.rstrip().endswith("…")


def test_a_pipe_is_told_of_deletions_and_of_the_server_that_went_and_came_back() -> None:
    view, lines = synced(), Lines()
    list(lines.news(view))
    view.apply(Down("workers", "cannot be reached"))
    assert list(lines.news(view)) == ["cannot be reached"]
    view.apply(Sync("workerpools", []))
    assert list(lines.news(view)) == ["pool census: deleted", "the Kubernetes API answers again"]
