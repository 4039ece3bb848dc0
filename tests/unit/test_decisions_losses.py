"""How the workers ended that a quarantined task took with it: whom the log names, and what is known of them."""

from datetime import UTC, datetime

from millpond_api.events import LossNote, TaskEvent
from millpond_api.lifecycle import TaskView, fold_all
from millpond_api.v1alpha1 import WorkerStatus
from millpond_operator.decisions.losses import find_lost, make_loss, make_note, say_losses
from millpond_operator.decisions.pods import Ended

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OOM = Ended("OOMKilled", 137, "", "more memory than its limit")


def log(*steps: tuple[str, int, str, str]) -> TaskView:
    return fold_all(
        TaskEvent(state=state, attempt=attempt, worker=worker, reason=reason, at=NOW, sequence=number)
        for number, (state, attempt, worker, reason) in enumerate(steps, start=1)
    )


def test_the_workers_of_the_poisoned_attempt_are_named_once_and_in_order() -> None:
    story = [
        ("Running", 1, "w0", ""),
        ("Backoff", 1, "w0", "OSError"),
        ("Running", 2, "w2", ""),
        ("Running", 2, "w1", ""),
    ]
    ended = [*story, ("Running", 2, "w2", ""), ("Failed", 2, "w3", "Poison")]
    assert find_lost(log(*ended)) == ("w2", "w1")
    assert find_lost(log(*story)) == ()
    assert find_lost(log(*story, ("Failed", 2, "w2", "AttemptsExhausted"))) == ()
    assert find_lost(log(*ended, ("Queued", 3, "", "Redriven"))) == ()


def test_the_pods_word_comes_before_the_objects_and_a_clean_end_says_nothing() -> None:
    status = WorkerStatus(state="Failed", reason="Evicted", message="node under pressure", exit_code=137)
    assert make_loss("w", OOM, status).reason == "OOMKilled"
    assert make_loss("w", None, status).reason == "Evicted"
    assert make_loss("w", Ended("Completed", 0, ""), None).reason == ""
    assert make_loss("w", None, WorkerStatus(state="Idle", reason="Ready")).reason == ""
    assert make_loss("w", None, WorkerStatus(state="Lost")).reason == "Lost"


def test_a_note_is_read_back_and_said_in_one_sentence() -> None:
    note = make_note(2, [make_loss("w1", OOM, None), make_loss("w2", None, None)], NOW)
    assert LossNote.decode(note.encode()) == note
    assert say_losses(note.workers) == "w1 ended as OOMKilled (exit code 137)"
    assert say_losses([make_loss("w2", None, None)]) == ""
