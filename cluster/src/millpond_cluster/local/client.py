"""A minimal client of the API server, for what the cluster tool itself needs.

Owns requests with the admin certificate: readiness, server-side apply, get, list. The standard library is enough for
that, and kubectl may be absent. It must not be used by the operator, the CLI or tests. Connection errors are answers
here (None): while a control plane starts, "not yet" is the normal case.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from millpond_cluster.errors import ClusterError

Object = dict[str, Any]
_MANAGER = "millpond-cluster"
_PLURALS = {"StorageClass": "storageclasses", "EndpointSlice": "endpointslices"}
_CLUSTER_SCOPED = {
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "Namespace",
    "Node",
    "PersistentVolume",
    "StorageClass",
}


class ApiClient:
    """One connection per request: it is used a few dozen times, and must survive restarts of the server."""

    def __init__(self, port: int, certificates: Path, subject: str = "admin") -> None:
        self._port = port
        self._tls = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        self._tls.load_cert_chain(certificates / f"{subject}.crt", certificates / f"{subject}.key")

    def read(self, path: str) -> Object | None:
        """The object or list at `path`; None when it does not exist or the server does not answer."""
        status, body = self._request("GET", path)
        return json.loads(body) if status == 200 else None

    def is_ready(self) -> bool:
        status, _ = self._request("GET", "/readyz")
        return status == 200

    def apply(self, manifest: Object) -> None:
        """Server-side apply: the same call creates and updates."""
        self.apply_text(object_path(manifest), json.dumps(manifest))

    def apply_text(self, path: str, manifest: str) -> None:
        """The same for a manifest that is YAML already, such as a file of somebody else's."""
        query = f"?fieldManager={_MANAGER}&force=true"
        status, body = self._send("PATCH", path + query, manifest, "application/apply-patch+yaml")
        if status not in (200, 201):
            raise ClusterError(f"the API server refused {path}: {status} {body[:500]!r}")

    def patch_status(self, manifest: Object) -> None:
        status, body = self._request(
            "PATCH", f"{object_path(manifest)}/status", manifest, "application/merge-patch+json"
        )
        if status != 200:
            raise ClusterError(
                f"the API server refused the status of {manifest['metadata']['name']}: {status} {body[:500]!r}"
            )

    def delete(self, path: str) -> None:
        self._request("DELETE", path)

    def _request(self, method: str, path: str, body: Object | None = None, content_type: str = "") -> tuple[int, bytes]:
        return self._send(method, path, json.dumps(body) if body is not None else None, content_type)

    def _send(self, method: str, path: str, body: str | None, content_type: str) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._tls)
        try:
            headers = {"Content-Type": content_type} if body is not None else {}
            connection.request(method, path, body and body.encode(), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error).encode()
        finally:
            connection.close()


def object_path(manifest: Object) -> str:
    """`/apis/<group>/<version>/namespaces/<ns>/<plural>/<name>` for the kinds that this tool makes."""
    kind, version = manifest["kind"], manifest["apiVersion"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = "" if kind in _CLUSTER_SCOPED else f"/namespaces/{manifest['metadata']['namespace']}"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"{prefix}{namespace}/{plural}/{manifest['metadata']['name']}"
