"""The one door to the Kubernetes API: requests by path, with errors as types and the operator's patch flavours.

Owns the connection (`credentials` says where to and as whom) and who waits for whom.
It decides nothing and retries nothing: whoever calls runs in a work queue or a loop that tries again. Survives an API
server that restarts: the next request opens a new connection.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson
from millpond_api import GROUP, VERSION

from millpond_operator import metrics
from millpond_operator.cluster.credentials import TokenSource, load_access

TIMEOUT = 15.0
LIST_TIMEOUT = 60.0
"""A page of 500 pools is 5 MB: an API server that shares two cores with ten others took 20 s for it (seen)."""
PAGE = 500
"""Objects of a page: about 3 MB of pods, so that a list of 20,000 never lies in memory as a whole."""
QUIET_WATCH = 150.0
"""Seconds without a byte after which a watch counts as dead: the API server sends a bookmark each minute."""
IN_FLIGHT = 32
GROWING = 48
"""Replicas that are set at once. As many again are under way from Kubernetes' own controllers, which start the pods of
the first pools of a herd: with 16 the last of 1,000 pools waited for most of them (seen). Each takes an API server
about 5 ms of CPU, so the Lease, which waits for nobody here, stands behind a quarter of a second of them there."""
GROWTH_FIRST = 1.0
"""Seconds that any other write waits for the replicas that wait already: a status is late by no more than that."""
FIELD_MANAGER = "millpond"

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API server refused: its HTTP status, its reason word and its message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class ApiUnreachable(Exception):
    """No answer from the API server; whether a write happened is unknown."""


def path(plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or its subresource."""
    prefix = _PREFIX.get(plural, f"/apis/{GROUP}/{VERSION}")
    parts = [prefix]
    if namespace:
        parts += ["namespaces", namespace]
    parts.append(plural)
    parts += [part for part in (name, subresource) if part]
    return "/".join(parts)


_PREFIX = {
    "pods": "/api/v1",
    "events": "/api/v1",
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "deployments": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "leases": "/apis/coordination.k8s.io/v1",
}


@dataclass
class Api:
    """A connection to the API server; `async with Api.connect(…)`."""

    session: aiohttp.ClientSession
    authorization: TokenSource
    semaphore: asyncio.Semaphore
    urgent: asyncio.Semaphore

    @classmethod
    async def connect(cls, kubeconfig: str = "", in_flight: int = IN_FLIGHT) -> Self:
        """Connect with the kubeconfig named, else the pod's own token, else the default kubeconfig."""
        access = load_access(kubeconfig)
        connector = aiohttp.TCPConnector(ssl=access.context, limit=0)
        session = aiohttp.ClientSession(access.server, connector=connector, read_bufsize=2**18)
        return cls(session, access.authorization, asyncio.Semaphore(in_flight), asyncio.Semaphore(GROWING))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.session.close()

    async def request(
        self, method: str, url_path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Any:
        """The decoded answer; ApiError when refused, ApiUnreachable when there was none."""
        data = orjson.dumps(body) if body is not None else None
        timeout = aiohttp.ClientTimeout(TIMEOUT if "limit" not in query else LIST_TIMEOUT)
        resource = _resource(url_path, query)
        if method != "GET" and not _is_urgent(url_path):
            await self._let_growth_pass()
        async with self._gate(url_path), self._send(method, resource, data, content_type, timeout) as response:
            answer = await response.read()
        metrics.count_request(method, url_path)
        if response.status >= 400:
            raise _error(response.status, answer)
        return orjson.loads(answer) if answer else None

    async def stream(self, url_path: str, **query: str) -> AsyncGenerator[dict[str, Any], None]:
        """The decoded lines of an answer that goes on (a watch) until the server ends it."""
        timeout = aiohttp.ClientTimeout(None, sock_connect=TIMEOUT, sock_read=QUIET_WATCH)
        async with self._send("GET", _resource(url_path, query), None, "application/json", timeout) as response:
            if response.status >= 400:
                raise _error(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield orjson.loads(line)

    def _gate(self, url_path: str) -> AbstractAsyncContextManager[Any]:
        """Who waits for whom: the Lease for nobody, replicas only for replicas, everything else for everything.

        In one line with 20,000 status patches the Lease was not renewed for 25 s (seen), and a wake took seconds.
        """
        if not _is_urgent(url_path):
            return self.semaphore
        return nullcontext() if "/leases/" in url_path else self.urgent

    async def _let_growth_pass(self) -> None:
        """Stand behind the replicas that wait now, if any do, though not for long: what follows them is no news yet."""
        if not self.urgent.locked():
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(GROWTH_FIRST), self.urgent:
                pass

    @asynccontextmanager
    async def _send(
        self, method: str, resource: str, data: bytes | None, content_type: str, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            if authorization := await self.authorization():
                headers["Authorization"] = authorization
            async with self.session.request(method, resource, data=data, headers=headers, timeout=timeout) as response:
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ApiUnreachable(f"{method} {resource}: {error!r}") from error

    async def read(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none."""
        try:
            found: dict[str, Any] = await self.request("GET", path(plural, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def read_pages(
        self, plural: str, namespace: str = "", selector: str = ""
    ) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        """Every object of a kind, page by page, each with the resource version of the whole list."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self.request("GET", path(plural, namespace), **query)
            yield page["items"], page["metadata"]["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def read_all(self, plural: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Every object of a kind at once: for kinds of which there are few."""
        return [body async for items, _ in self.read_pages(plural, namespace, selector) for body in items]

    async def create(self, plural: str, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create the object; ApiError 409 when it exists."""
        made: dict[str, Any] = await self.request("POST", path(plural, namespace), manifest, fieldManager=FIELD_MANAGER)
        return made

    async def apply(self, plural: str, namespace: str, manifest: dict[str, Any]) -> dict[str, Any]:
        """Server-side apply under the operator's one field manager; idempotent."""
        target = path(plural, namespace, manifest["metadata"]["name"])
        applied: dict[str, Any] = await self.request(
            "PATCH", target, manifest, APPLY_PATCH, fieldManager=FIELD_MANAGER, force="true"
        )
        return applied

    async def merge(self, target: str, patch: dict[str, Any]) -> Any:
        """JSON merge patch of the path."""
        return await self.request("PATCH", target, patch, MERGE_PATCH, fieldManager=FIELD_MANAGER)

    async def json_patch(self, target: str, operations: list[dict[str, Any]]) -> Any:
        """JSON patch of the path (`test` operations make it conditional)."""
        return await self.request("PATCH", target, operations, JSON_PATCH, fieldManager=FIELD_MANAGER)

    async def delete(self, plural: str, namespace: str, name: str, uid: str = "", *, grace: int | None = None) -> bool:
        """Delete the object (only the one with `uid` when given); False when it is not there any more.

        `grace`: seconds for a pod to end, instead of its own.
        """
        options: dict[str, Any] = {"preconditions": {"uid": uid}} if uid else {}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        body = options or None
        try:
            await self.request("DELETE", path(plural, namespace, name), body)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True


def _is_urgent(url_path: str) -> bool:
    return "/leases/" in url_path or url_path.endswith("/scale")


def _resource(url_path: str, query: dict[str, str]) -> str:
    return url_path + (f"?{urlencode(query)}" if query else "")


def _error(status: int, data: bytes) -> ApiError:
    try:
        answer = orjson.loads(data)
        return ApiError(status, answer.get("reason", ""), answer.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(status, "", data[:500].decode(errors="replace"))
