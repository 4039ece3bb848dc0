"""Leader election by a Lease: one operator acts, the others wait; who loses the Lease exits.

Owns the Lease object. The rules are client-go's: every write is a compare-and-set on the resource version; another's
Lease counts as expired only after it stood unchanged for its whole duration on *our* clock, so clocks may differ; the
holder gives up when it could not renew for 80 % of the duration, before anybody else may take over. Survives an API
server that is away for less than that.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from millpond_operator.cluster.api import Api, ApiError, ApiUnreachable, path

log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """The Lease is another's or could not be renewed: this process must stop acting at once."""


@dataclass(frozen=True)
class Identity:
    """Who asks for which Lease, and for how long a silent holder keeps it."""

    holder: str
    namespace: str
    name: str
    duration: float


class Leader:
    """`acquire`, then `hold` until it raises; `release` at a clean end."""

    def __init__(self, api: Api, identity: Identity, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._me = identity
        self._clock = clock
        self._seen_version = ""
        self._seen_at = 0.0
        self._lease: dict[str, Any] | None = None
        self._interval = identity.duration / 5

    async def acquire(self) -> None:
        """Return once this process holds the Lease."""
        while True:
            try:
                if await self._try_acquire():
                    log.info("leading", lease=self._me.name, holder=self._me.holder)
                    return
            except (ApiError, ApiUnreachable) as error:
                log.warning("the Lease could not be taken; trying again", error=str(error))
            await asyncio.sleep(self._interval)

    async def hold(self) -> None:
        """Renew until it fails for good; raises LeadershipLost."""
        renewed = self._clock()
        while True:
            await asyncio.sleep(self._interval)
            try:
                async with asyncio.timeout(self._interval):
                    if not await self._renew():
                        raise LeadershipLost("the Lease is held by another process")
                renewed = self._clock()
            except (ApiError, ApiUnreachable, TimeoutError) as error:
                log.warning("the Lease was not renewed", error=str(error))
            if self._clock() - renewed > self._me.duration * 0.8:
                raise LeadershipLost(f"the Lease was not renewed for {self._clock() - renewed:.1f} s")

    async def release(self) -> None:
        """Let the next one take over at once."""
        if self._lease is None:
            return
        try:
            await self._write(self._lease, holder="", duration=1)
        except (ApiError, ApiUnreachable) as error:
            log.warning("the Lease was not released", error=str(error))

    async def _try_acquire(self) -> bool:
        lease = await self._api.read("leases", self._me.namespace, self._me.name)
        if lease is None:
            manifest = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._me.name, "namespace": self._me.namespace},
                "spec": self._spec({}, self._me.holder, self._me.duration),
            }
            self._lease = await self._api.create("leases", self._me.namespace, manifest)
            return True
        holder = lease["spec"].get("holderIdentity") or ""
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self._clock()
        duration = float(lease["spec"].get("leaseDurationSeconds") or self._me.duration)
        if holder not in ("", self._me.holder) and self._clock() - self._seen_at < duration:
            return False
        return await self._write(lease, self._me.holder, self._me.duration)

    async def _renew(self) -> bool:
        assert self._lease is not None
        if await self._write(self._lease, self._me.holder, self._me.duration):
            return True
        current = await self._api.read("leases", self._me.namespace, self._me.name)
        if current is None or current["spec"].get("holderIdentity") != self._me.holder:
            return False
        self._lease = current  # our own write whose answer was lost
        return await self._write(current, self._me.holder, self._me.duration)

    async def _write(self, lease: dict[str, Any], holder: str, duration: float) -> bool:
        changed = {**lease, "spec": self._spec(lease["spec"], holder, duration)}
        try:
            self._lease = await self._api.request("PUT", path("leases", self._me.namespace, self._me.name), changed)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    def _spec(self, old: dict[str, Any], holder: str, duration: float) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes = old.get("holderIdentity") != holder
        return {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration)),
            "acquireTime": now if changes else old.get("acquireTime", now),
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if changes and holder else 0),
        }
