"""Kubernetes Events: what `kubectl describe` shows under an object.

Owns their posting: a bounded queue, one poster, repetitions within ten minutes are counted on one Event instead of
making new ones. An Event that cannot be posted is dropped and logged: it is news, not state.
"""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import structlog

from millpond_operator.cluster.api import Api, ApiError, ApiUnreachable, path

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 600.0


class News(NamedTuple):
    """One Event: about which object, Normal or Warning, one word, one sentence."""

    kind: str
    namespace: str
    name: str
    uid: str
    type: str
    reason: str
    message: str


class EventPoster:
    """`post` from anywhere; `run` sends."""

    def __init__(self, api: Api, component: str, size: int = 1000) -> None:
        self._api = api
        self._component = component
        self._queue: asyncio.Queue[News] = asyncio.Queue(size)
        self._posted: dict[News, tuple[str, int, float]] = {}

    def post(self, news: News) -> None:
        """Queue an Event; dropped when a thousand are waiting."""
        try:
            self._queue.put_nowait(news)
        except asyncio.QueueFull:
            log.warning("an Event was dropped", reason=news.reason, object=news.name)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            news = await self._queue.get()
            try:
                await self._send(news)
            except (ApiError, ApiUnreachable) as error:
                log.warning("an Event was not posted", reason=news.reason, object=news.name, error=str(error))

    async def _send(self, news: News) -> None:
        now = datetime.now(UTC)
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        known = self._posted.get(news)
        if known and time.monotonic() - known[2] < REPEAT_SECONDS:
            name, count, _ = known
            self._posted[news] = (name, count + 1, time.monotonic())
            await self._api.merge(path("events", news.namespace, name), {"count": count + 1, "lastTimestamp": stamp})
            return
        name = f"{news.name}.{now.timestamp():.6f}".replace(".", "-")
        if len(self._posted) > 5000:
            self._posted.clear()
        self._posted[news] = (name, 1, time.monotonic())
        await self._api.create("events", news.namespace, self._manifest(news, name, stamp))

    def _manifest(self, news: News, name: str, stamp: str) -> dict[str, Any]:
        group = "v1" if news.kind == "Pod" else "millpond.dev/v1alpha1"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": news.namespace},
            "involvedObject": {
                "apiVersion": group,
                "kind": news.kind,
                "namespace": news.namespace,
                "name": news.name,
                "uid": news.uid,
            },
            "type": news.type,
            "reason": news.reason,
            "message": news.message[:1000],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
