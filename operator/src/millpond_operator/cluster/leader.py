"""Leader election by a Lease: one operator acts, the others wait; who loses the Lease exits.

Owns the Lease object. The rules are client-go's: every write is a compare-and-set on the resource version; another's
Lease counts as expired only after it stood unchanged for its whole duration on *our* clock, so clocks may differ; the
holder gives up when it could not renew for 80 % of the duration (90 % when a try is under way then), before anybody
else may take over. Survives an API server that is away for less than that, and one that is slow.
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


@dataclass(frozen=True)
class Patience:
    """When a holder tries again, and when it gives up. `silent`: seconds since it asked for its last renewal.

    Every try may take half of what is left: an API server that answers slowly is there. That they all run out is known
    at 90 % of the duration, so before anybody else may take over.
    """

    duration: float

    @property
    def interval(self) -> float:
        """Seconds between renewals while all is well."""
        return self.duration / 5

    def pause(self, silent: float, *, refused: bool) -> float:
        """Seconds before the next try; one that follows a refusal does not come at once."""
        return min(self.interval if refused else max(0.0, self.interval - silent), max(0.0, self._left(silent)))

    def timeout(self, silent: float) -> float:
        """Seconds for a try. One is made even after a stall of this process: a renewal tells that nobody took over."""
        return max(self._left(silent), self.interval) / 2

    def is_over(self, silent: float) -> bool:
        return self._left(silent) <= 0

    def _left(self, silent: float) -> float:
        return self.duration * 0.8 - silent


class Leader:
    """`acquire`, then `hold` until it raises; `release` at a clean end."""

    def __init__(self, api: Api, identity: Identity, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._me = identity
        self._clock = clock
        self._seen_version = ""
        self._seen_at = 0.0
        self._lease: dict[str, Any] | None = None
        self._patience = Patience(identity.duration)

    async def acquire(self) -> None:
        """Return once this process holds the Lease."""
        while True:
            try:
                if await self._try_acquire():
                    log.info("leading", lease=self._me.name, holder=self._me.holder)
                    return
            except (ApiError, ApiUnreachable) as error:
                log.warning("the Lease could not be taken; trying again", error=str(error))
            await asyncio.sleep(self._patience.interval)

    async def hold(self) -> None:
        """Renew until it fails for good; raises LeadershipLost."""
        # Counted from the asking: when the server wrote it down, nobody here knows.
        renewed, refused, patience = self._clock(), False, self._patience
        while True:
            await asyncio.sleep(patience.pause(self._clock() - renewed, refused=refused))
            asked = self._clock()
            try:
                async with asyncio.timeout(patience.timeout(asked - renewed)):
                    if not await self._renew():
                        raise LeadershipLost("the Lease is held by another process")
                renewed, refused = asked, False
            except (ApiError, ApiUnreachable, TimeoutError) as error:
                silent, refused = self._clock() - renewed, True
                log.warning("the Lease was not renewed", error=str(error) or "no answer in time", seconds=silent)
                if patience.is_over(silent):
                    raise LeadershipLost(f"the Lease was not renewed for {silent:.1f} s") from error

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
