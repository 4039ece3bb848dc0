"""The connection to the Kubernetes API: requests on Millpond's kinds and on pods, each refusal turned into a sentence.

Owns the only use of the `kubernetes` client. Requests go through its `ApiClient` (kubeconfig, credentials, TLS) but not
through its generated methods: those decode and validate every answer through models, which for 2,000 Task objects costs
more than the request. It must not retry a write: who calls knows whether that is safe. It survives a cluster that is
away by saying so (`Unreachable`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import urllib3
from millpond_api import API_VERSION

from millpond_cli.errors import CliError, NotFound, Unreachable, refusal
from millpond_cli.options import Target

Object = dict[str, Any]
"""A Kubernetes object as plain JSON data."""

PAGE = 500
"""Objects a list request asks for: kubectl's own chunk size."""
CONNECTIONS = 32
"""Connections kept open: concurrent creates and a few watches; more would queue in the API server anyway."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0

MERGE_PATCH = "application/merge-patch+json"
PLURALS = {"WorkerPool": "workerpools", "Task": "tasks", "Worker": "workers", "Pod": "pods"}


@dataclass(frozen=True)
class Request:
    """One HTTP request to the API server. `what` names the object in errors."""

    method: str
    path: str
    what: str
    query: dict[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"
    read_seconds: float = READ_SECONDS


@dataclass(frozen=True)
class Listing:
    """The objects of a list and the version that a watch goes on from."""

    items: list[Object]
    version: str


class Cluster:
    """A cluster and the namespace in use. Safe to share between threads."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    def send(self, request: Request) -> urllib3.HTTPResponse:
        """The answer, its body unread; CliError when it is not 2xx or does not come."""
        headers = {"Accept": "application/json", "Content-Type": request.content_type}
        parts = self._client.param_serialize(
            method=request.method,
            resource_path=request.path,
            query_params=list(request.query.items()),
            header_params=headers,
            body=request.body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*parts, _request_timeout=(CONNECT_SECONDS, request.read_seconds))
            response = cast(urllib3.HTTPResponse, answer.response)
            if response.status < 300:
                return response
            raise refusal(response.status, response.data, request.what)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        # The client wraps a failed TLS handshake as ApiException with status 0 and nothing else of the transport.
        except self._client_error() as error:
            raise self._unreachable(error) from error

    def _client_error(self) -> type[Exception]:
        from kubernetes.client.exceptions import ApiException

        return ApiException

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = str(getattr(error, "reason", "") or error).rpartition(": ")[2].strip()
        host = self._client.configuration.host
        return Unreachable(f"the Kubernetes API at {host} cannot be reached ({reason}): is the cluster up?")

    def json(self, request: Request) -> Object:
        """The answer's body as JSON data."""
        try:
            return cast(Object, orjson.loads(self.send(request).data))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error

    def path(self, plural: str, name: str = "", everywhere: bool = False) -> str:
        """The address of a kind's collection, or of one object in the namespace."""
        root = "/api/v1" if plural == "pods" else f"/apis/{API_VERSION}"
        place = "" if everywhere else f"/namespaces/{self.namespace}"
        return f"{root}{place}/{plural}" + (f"/{name}" if name else "")

    def read(self, plural: str, name: str) -> Object:
        """One object; NotFound when there is none."""
        return self.json(Request("GET", self.path(plural, name), f"{_singular(plural)} {name}"))

    def find(self, plural: str, name: str) -> Object | None:
        """One object, or None."""
        try:
            return self.read(plural, name)
        except NotFound:
            return None

    def list(self, plural: str, everywhere: bool = False, query: dict[str, str] | None = None) -> Listing:
        """All objects of a kind, read in chunks, so that 100,000 of them need no 500 MB answer."""
        items: list[Object] = []
        page = {"limit": str(PAGE), **(query or {})}
        while True:
            answer = self.json(Request("GET", self.path(plural, everywhere=everywhere), plural, page))
            items.extend(answer.get("items", []))
            metadata = answer.get("metadata", {})
            if not metadata.get("continue"):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            page["continue"] = metadata["continue"]

    def create(self, manifest: Object) -> Object:
        """The object as stored; Conflict when the name is taken."""
        metadata = manifest["metadata"]
        name = metadata.get("name") or metadata.get("generateName", "")
        plural = PLURALS[manifest["kind"]]
        return self.json(Request("POST", self.path(plural), f"{_singular(plural)} {name}", body=manifest))

    def patch(self, plural: str, name: str, body: Object) -> Object:
        """The object after a merge patch: `None` removes a field."""
        what = f"{_singular(plural)} {name}"
        return self.json(Request("PATCH", self.path(plural, name), what, body=body, content_type=MERGE_PATCH))

    def delete(self, plural: str, name: str) -> None:
        """The object is gone or going; nothing happens when it was not there."""
        with contextlib.suppress(NotFound):
            self.json(Request("DELETE", self.path(plural, name), f"{_singular(plural)} {name}"))

    def lines(self, request: Request) -> Iterator[bytes]:
        """The lines of an answer as they arrive (a watch, a log), without their ends."""
        response = self.send(request)
        rest = b""
        try:
            # read1 gives what has arrived; stream() would wait for a full buffer on answers that are not chunked.
            while chunk := response.read1():
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
            if rest:
                yield rest
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        finally:
            response.close()

    def open_port(self, namespace: str, pod: str, port: int) -> Any:
        """A connection to a port of a pod, as a socket; CliError when the API server refuses it."""
        from kubernetes import client
        from kubernetes.stream import portforward

        # A client of its own: for the time of the handshake the helper replaces the client's way to send requests.
        core = client.CoreV1Api(client.ApiClient(self._client.configuration))
        try:
            forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except self._client_error() as error:
            what = f"port {port} of pod {namespace}/{pod} cannot be forwarded"
            raise CliError(
                f"{what} ({getattr(error, 'reason', error)}): is `create pods/portforward` allowed?"
            ) from error
        return forward.socket(port)


def _singular(plural: str) -> str:
    return {"workerpools": "pool"}.get(plural, plural.removesuffix("s"))


OUR_WORDS = {"workerpool": "pool", "wp": "pool", "mt": "task", "mw": "worker"}


def split_name(text: str) -> tuple[str, str]:
    """(kind, name) of `x`, `task/x` or kubectl's `task.millpond.dev/x`; the kind is empty, or the word that we use."""
    kind, _, name = text.rpartition("/")
    word = kind.partition(".")[0].lower().removesuffix("s")
    return OUR_WORDS.get(word, word), name


def connect(target: Target) -> Cluster:
    """The cluster that `target` names, as kubectl would find it. Nothing is sent yet."""
    # 0.7 s on this import: only commands that talk to a cluster pay for it.
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_kube_config(
            config_file=target.kubeconfig, context=target.context, client_configuration=settings, persist_config=False
        )
        namespace = target.namespace or _context_namespace(target)
    except config.ConfigException as error:
        if in_cluster := _in_cluster(settings, target):
            return in_cluster
        raise CliError(f"no usable kubeconfig ({error}): set KUBECONFIG, or use --kubeconfig and --context") from error
    settings.connection_pool_maxsize = CONNECTIONS
    settings.retries = urllib3.Retry(total=0)
    return Cluster(client.ApiClient(settings), namespace)


def _context_namespace(target: Target) -> str:
    from kubernetes import config

    contexts, current = config.list_kube_config_contexts(config_file=target.kubeconfig)
    chosen = next((c for c in contexts if c["name"] == target.context), current)
    return str(chosen["context"].get("namespace") or "default")


def _in_cluster(settings: Any, target: Target) -> Cluster | None:
    """The cluster around this pod, when nothing names another one."""
    from kubernetes import client, config

    if target.kubeconfig or target.context:
        return None
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        return None
    return Cluster(client.ApiClient(settings), target.namespace or "default")
