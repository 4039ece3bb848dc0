"""The one writer of status: coalesces per object, writes with bounded concurrency, and never goes backwards.

Owns what was written last. A status replaces the whole field by a JSON patch that first tests the object's uid, so an
object that was deleted and made again never gets its predecessor's status; a merge patch would also drop nulls inside
of results. `rank` orders what several sources say of one object (a task's log sequence): a lower rank than the one
already accepted is dropped. Survives refusals (the object is gone: dropped) and silence (tried again).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import structlog

from millpond_operator.cluster.api import Api, ApiError, path
from millpond_operator.cluster.workqueue import WorkQueue

log = structlog.get_logger(__name__)

REMEMBERED = 50_000
LINES = {"workerpools": 4, "workers": 4}
OTHERS = 16
"""Statuses written at once. What moves often (pools, workers) has few: a slow API server then gets fewer of them, each
with more news in it, and the others (tasks) do not stand behind them."""
_UNFIT = "rejected our request due to an error in our request"
"""All that Kubernetes 1.35 says of a JSON patch whose test failed; a status that its schema refuses is told field by
field."""


class Target(NamedTuple):
    """An object whose status is written."""

    plural: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Entry:
    rank: int
    status: bytes | None
    """What waits to be written, as JSON: a Worker's takes 1 KB and its dictionaries 7, and in a rush thousands wait."""
    written: int = 0
    """Hash of the text written last (64 bits): the text itself would be a kilobyte for each object."""


class StatusWriter:
    """`put` a status; `run` writes the newest of each object."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._entries: dict[Target, _Entry] = {}
        self.queue: WorkQueue[Target] = WorkQueue("status", self._write, OTHERS)
        self._lines = {plural: WorkQueue(f"status of {plural}", self._write, few) for plural, few in LINES.items()}
        self.writes = 0

    def put(self, target: Target, status: dict[str, Any], rank: int = 0, delay: float = 0.0) -> bool:
        """Accept a status to be written (within `delay` seconds, to coalesce); False when a later one is known."""
        entry = self._entries.get(target)
        if entry is not None and rank < entry.rank:
            return False
        if entry is None:
            self._forget_some()
            entry = self._entries[target] = _Entry(rank, None)
        # orjson's bytes keep its whole buffer, 4 KB for a Worker's status (seen with 3.13): a copy fits its text.
        entry.rank, entry.status = rank, bytes(memoryview(orjson.dumps(status)))
        queue = self._lines.get(target.plural, self.queue)
        if delay:
            queue.add_after(target, delay)
        else:
            queue.add(target)
        return True

    def forget(self, target: Target) -> None:
        """The object is gone."""
        self._entries.pop(target, None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for queue in (self.queue, *self._lines.values()):
                group.create_task(queue.run())

    async def _write(self, target: Target) -> None:
        entry = self._entries.get(target)
        if entry is None or entry.status is None:
            return
        status, entry.status = entry.status, None
        text = hash(status)
        if text == entry.written:
            return
        operations: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": target.uid},
            {"op": "add", "path": "/status", "value": orjson.Fragment(status)},
        ]
        try:
            await self._api.json_patch(path(target.plural, target.namespace, target.name, "status"), operations)
        except ApiError as error:
            # 404: gone; 422 for a patch that does not fit: another object of that name. Else: again, unless newer.
            if error.status == 404 or (error.status == 422 and _UNFIT in error.message):
                self.forget(target)
                return
            if error.status == 422:
                log.error("the API server refused a status", object=target.name, error=error.message)
                return
            entry.status = entry.status or status
            raise
        except Exception:  # whatever it was, what was not written stays pending; the queue tries again
            entry.status = entry.status or status
            raise
        entry.written = text
        self.writes += 1

    def _forget_some(self) -> None:
        """Bounds the memory: the oldest entries without a pending write go."""
        if len(self._entries) < REMEMBERED:
            return
        settled = [target for target, entry in self._entries.items() if entry.status is None]
        for target in settled[: REMEMBERED // 10]:
            del self._entries[target]
