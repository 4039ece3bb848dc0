"""The one door to the Kubernetes API: requests by path, with errors as types and the operator's patch flavours.

Owns connection and authentication (in a pod: the mounted token, read again as it rotates; elsewhere a kubeconfig).
It decides nothing and retries nothing: whoever calls runs in a work queue or a loop that tries again. Survives an API
server that restarts: the next request opens a new connection.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import orjson
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config
from millpond_api import GROUP, VERSION

TIMEOUT = 15.0
_config: Any = kubernetes_config  # the generated package has no types
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

    client: Any
    semaphore: asyncio.Semaphore

    @classmethod
    async def connect(cls, kubeconfig: str = "", in_flight: int = 32) -> Self:
        """Connect with the kubeconfig named, else the pod's own token, else the default kubeconfig."""
        configuration = kubernetes_client.Configuration()
        if kubeconfig:
            await _config.load_kube_config(kubeconfig, client_configuration=configuration)
        else:
            try:
                _config.load_incluster_config(client_configuration=configuration)
            except _config.ConfigException:
                await _config.load_kube_config(client_configuration=configuration)
        # aiohttp would look for a netrc file on every request: 30 % of a patch's CPU (measured).
        configuration.client_session_kwargs = {"trust_env": False}
        return cls(kubernetes_client.ApiClient(configuration), asyncio.Semaphore(in_flight))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.client.close()

    async def request(
        self, method: str, url_path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> Any:
        """The decoded answer; ApiError when refused, ApiUnreachable when there was none."""
        resource = url_path + (f"?{urlencode(query)}" if query else "")
        async with self.semaphore:
            try:
                parameters = await self.client.param_serialize(
                    method,
                    resource,
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self.client.call_api(*parameters, _request_timeout=TIMEOUT)
                data = await response.read()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise ApiUnreachable(f"{method} {url_path}: {error!r}") from error
        if response.status >= 400:
            raise _error(response.status, data)
        return orjson.loads(data) if data else None

    async def read(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None where there is none."""
        try:
            found: dict[str, Any] = await self.request("GET", path(plural, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def read_all(self, plural: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Every object of a kind, in pages of 500."""
        items: list[dict[str, Any]] = []
        query = {"limit": "500"} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self.request("GET", path(plural, namespace), **query)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items
            query["continue"] = token

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

    async def delete(self, plural: str, namespace: str, name: str, uid: str = "") -> bool:
        """Delete the object (only the one with `uid` when given); False when it is not there any more."""
        body = {"preconditions": {"uid": uid}} if uid else None
        try:
            await self.request("DELETE", path(plural, namespace, name), body)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True


def _error(status: int, data: bytes) -> ApiError:
    try:
        answer = orjson.loads(data)
        return ApiError(status, answer.get("reason", ""), answer.get("message", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return ApiError(status, "", data[:500].decode(errors="replace"))
