"""One task's progress while somebody waits for it: a bar on a terminal, a line for each word of the handler in a pipe.

Owns the watch of the workers, whose status says what they run and how far it is, and the drawing. It must not decide
when the wait is over: that is `submitting.wait_for`. It survives a refusal (somebody may read tasks and not
workers) and a lost API server: then nothing is shown, and the wait goes on.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from millpond_api.percent import parse_percent
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from millpond_cli.cluster import Cluster, Object
from millpond_cli.errors import CliError
from millpond_cli.output import say, stderr
from millpond_cli.rows import status_of
from millpond_cli.watching import Query, Set, Sync, follow


@dataclass(frozen=True)
class Word:
    """What a worker's status says of a task it runs."""

    worker: str
    attempt: int
    text: str

    @property
    def sentence(self) -> str:
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"{self.text or 'running'} ({self.worker}{again})"


def find_word(workers: list[Object], task: str) -> Word | None:
    """The latest attempt at the task among what these workers run; None when none of them runs it."""
    words = [
        Word(worker["metadata"]["name"], int(one.get("attempt") or 1), str(one.get("progress") or ""))
        for worker in workers
        for one in status_of(worker).get("running") or []
        if one.get("task") == task
    ]
    return max(words, key=lambda word: word.attempt, default=None)


@contextlib.contextmanager
def showing(cluster: Cluster, task: str) -> Iterator[None]:
    """Within this block the progress of the task is shown on stderr."""
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        tell = _bar(stack, task) if stderr().is_terminal else _lines(task)
        # A daemon: a read from a quiet watch cannot be interrupted, and nobody waits for it.
        threading.Thread(target=_pump, args=(cluster, task, stop, tell), daemon=True, name="progress").start()
        try:
            yield
        finally:
            stop.set()


def _pump(cluster: Cluster, task: str, stop: threading.Event, tell: Callable[[Word], None]) -> None:
    last: Word | None = None
    with contextlib.suppress(CliError):
        for change in follow(cluster, Query("workers"), stop):
            if stop.is_set():
                return
            items = change.items if isinstance(change, Sync) else [change.item] if isinstance(change, Set) else []
            word = find_word(items, task)
            if word is not None and word != last:
                last = word
                tell(word)


def _bar(stack: contextlib.ExitStack, task: str) -> Callable[[Word], None]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = stack.enter_context(Progress(*columns, console=stderr(), transient=True))
    row: TaskID = bar.add_task(f"{task}: waiting", total=None)

    def tell(word: Word) -> None:
        percent = parse_percent(word.text)
        bar.update(
            row,
            description=f"{task}: {word.sentence}",
            total=None if percent is None else 100.0,
            completed=percent or 0.0,
        )

    return tell


def _lines(task: str) -> Callable[[Word], None]:
    return lambda word: say(f"{task}: {word.sentence}") if word.text else None
