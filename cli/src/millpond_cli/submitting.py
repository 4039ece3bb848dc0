"""Creating Task objects, one or thousands, and waiting for how they end.

Owns concurrent creation and the wait by watch. Its one hard problem is a create whose answer is lost: for a named task
the retry meets the object itself (409) and compares the spec, so nothing runs twice; an unnamed one is not retried. It
must not print: progress goes through a callback.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from millpond_api.lifecycle import TERMINAL

from millpond_cli.cluster import Cluster, Object
from millpond_cli.errors import CliError, Conflict, Unreachable
from millpond_cli.watching import Change, Gone, Query, Set, Sync, follow

CREATORS = 8
"""Concurrent creates: on two shared cores the API server is busy with four; more only queue there."""
CREATE_ATTEMPTS = 5
RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Created:
    """One stored Task; `existed` when the same task was there already."""

    name: str
    existed: bool = False


def create_task(cluster: Cluster, manifest: Object) -> Created:
    """The task exists once this returns. Conflict when another task has the name."""
    named = "name" in manifest["metadata"]
    for attempt in range(1, CREATE_ATTEMPTS + 1):
        try:
            return Created(str(cluster.create(manifest)["metadata"]["name"]))
        except Conflict:
            stored = cluster.read("tasks", manifest["metadata"]["name"])
            if not same_spec(stored["spec"], manifest["spec"]):
                raise
            return Created(manifest["metadata"]["name"], existed=attempt == 1)
        except Unreachable:
            if not named or attempt == CREATE_ATTEMPTS:
                raise
            time.sleep(RETRY_SECONDS * attempt)
    raise AssertionError("the loop returns or raises")


def same_spec(stored: Object, wanted: Object) -> bool:
    """Whether the stored spec says what was wanted; fields that the server defaulted do not count, nor do times."""
    moving = ("notBefore", "deadline")
    return all(stored.get(key) == value for key, value in wanted.items() if key not in moving)


def create_all(cluster: Cluster, manifests: list[Object], progress: Callable[[int], None]) -> Iterator[Created]:
    """Creates them concurrently, in any order; `progress` gets the number stored so far. The first refusal stops it."""
    with ThreadPoolExecutor(CREATORS, thread_name_prefix="create") as pool:
        answers = pool.map(lambda manifest: create_task(cluster, manifest), manifests)
        try:
            for number, created in enumerate(answers, 1):
                progress(number)
                yield created
        except CliError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def phase_of(task: Object) -> str:
    """The task's phase; a task without a status waits to be seen by the operator."""
    return str((task.get("status") or {}).get("phase") or "Pending")


def is_terminal(task: Object) -> bool:
    return phase_of(task) in TERMINAL


@dataclass
class Awaited:
    """What a wait has seen: terminal tasks by name, and what is still open."""

    open: set[str]
    ended: dict[str, Object] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Takes one change of the watch into account. A task that is not there any more is open no longer."""
        if isinstance(change, Sync):
            for item in change.items:
                self._see(item)
            self.open &= {item["metadata"]["name"] for item in change.items}
        elif isinstance(change, Set):
            self._see(change.item)
        elif isinstance(change, Gone):
            self._see(change.item, deleted=True)

    def _see(self, task: Object, deleted: bool = False) -> None:
        name = task["metadata"]["name"]
        if name in self.open and (deleted or is_terminal(task)):
            self.open.discard(name)
            self.ended[name] = task


def wait_for(
    cluster: Cluster, names: Iterable[str], seconds: float | None, progress: Callable[[int], None] = lambda _: None
) -> dict[str, Object]:
    """The tasks by name, each ended; CliError when time is up first. Tasks deleted before it looked are left out."""
    awaited = Awaited(set(names))
    one = next(iter(awaited.open)) if len(awaited.open) == 1 else ""
    stop = threading.Event()
    failures: list[CliError] = []

    def run() -> None:
        try:
            for change in follow(cluster, Query("tasks", name=one), stop):
                awaited.apply(change)
                progress(len(awaited.ended))
                if not awaited.open:
                    return
        except CliError as error:
            failures.append(error)

    # On a thread of its own, because a read from a quiet watch cannot be interrupted by a timeout.
    thread = threading.Thread(target=run, daemon=True, name="wait")
    thread.start()
    thread.join(seconds)
    stop.set()
    if failures:
        raise failures[0]
    if awaited.open and seconds is not None:
        some = ", ".join(sorted(awaited.open)[:3])
        more = f" and {len(awaited.open) - 3} more" if len(awaited.open) > 3 else ""
        raise CliError(f"not ended within {seconds:g} s: {some}{more}; they go on, see `millpond get tasks`")
    return awaited.ended
