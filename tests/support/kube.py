"""A real Kubernetes for tests, through pytest-kind's fixture, and a small client to look at it.

Owns the choice of pytest-kind's options (real kind where a Docker engine is, `millpond-cluster-kind` elsewhere), taking
over a cluster that already runs, and `Kube`: objects as plain dictionaries, kubectl as a person would type it. It must
not be imported by anything that ships. Survives an API server that restarts: reads are tried again for a while.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from millpond_api import API_VERSION, LABEL_POOL
from millpond_cluster.api import Cluster
from millpond_cluster.build.builder import has_docker_engine
from millpond_cluster.errors import ClusterError

ROOT = Path(__file__).parents[2]
Body = dict[str, Any]
NOTES, MORE_TO_COME = "MILLPOND_TESTS_NOTES", "MILLPOND_TESTS_MORE"
"""Variables of `tests/run.py`: a folder that a tier's pytests share; and whether another one follows."""
PATIENCE = 30.0
"""Seconds for which an API server that does not answer is asked again: a restart takes about five."""


# ---- pytest-kind


def choose_cluster(config: pytest.Config, name: str, profile: str) -> None:
    """Set pytest-kind's options for this tier, where the command line did not."""
    option = config.option
    os.environ.setdefault("MILLPOND_CLUSTER_PROFILE", profile)
    if option.cluster_name == "pytest-kind":
        option.cluster_name = name
    option.kind_bin = option.kind_bin or find_kind()
    option.kind_kubectl_bin = option.kind_kubectl_bin or shutil.which("kubectl")
    option.kubeconfig = option.kubeconfig or str(make_kubeconfig_path(option.cluster_name))
    running = is_running(option.cluster_name)
    if running:
        shutil.copyfile(Cluster.up(option.cluster_name, profile).kubeconfig, option.kubeconfig)
    if profile == "node":
        option.keep_cluster = option.keep_cluster or _is_kept(config, running)


def _is_kept(config: pytest.Config, running: bool) -> bool:
    """Whether the node cluster stays: somebody's (a demo's, say) is left as it was found, ours while it is needed."""
    notes = os.environ.get(NOTES)
    if notes is None:
        return running
    ours = Path(notes) / "cluster-is-ours"
    if not running and not hasattr(config, "workerinput"):
        ours.touch()
    return bool(os.environ.get(MORE_TO_COME)) or not ours.exists()


def find_kind() -> str | None:
    """kind for an engine; without one the tool of the same four commands."""
    if has_docker_engine():
        return shutil.which("kind")
    beside = Path(sys.executable).parent / "millpond-cluster-kind"
    return str(beside) if beside.exists() else shutil.which("millpond-cluster-kind")


def make_kubeconfig_path(name: str) -> Path:
    """A file of this user alone, the same in every run: a run that was killed leaves one file, not one each time."""
    directory = Path(tempfile.gettempdir()) / f"millpond-tests-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{name}.kubeconfig"


def is_running(name: str) -> bool:
    try:
        seen = Cluster(name).status().values()
    except ClusterError:
        return False
    return "ready" in seen or "exists" in seen


# ---- looking at it


PATHS = {
    "workerpools": f"/apis/{API_VERSION}",
    "poolgroups": f"/apis/{API_VERSION}",
    "supervisors": f"/apis/{API_VERSION}",
    "tasks": f"/apis/{API_VERSION}",
    "workers": f"/apis/{API_VERSION}",
    "deployments": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "events": "/api/v1",
    "pods": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
}


class Refused(Exception):
    """The API server said no; the text is its sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass
class Kube:
    """One namespace of a cluster."""

    kubeconfig: Path
    namespace: str = "default"
    _http: httpx.Client | None = field(default=None, repr=False)

    def within(self, namespace: str) -> "Kube":
        return Kube(self.kubeconfig, namespace, self._client())

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints; a refusal raises with the sentence that a person would read."""
        command = [shutil.which("kubectl") or "kubectl", f"--namespace={self.namespace}", *words]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)
        if check and done.returncode:
            raise Refused(done.returncode, done.stderr.strip())
        return done.stdout + done.stderr

    def apply(self, *manifests: Body) -> str:
        """`kubectl apply`: client-side validation, conversion and all."""
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def request(self, verb: str, path: str, body: Any = None, content_type: str = "application/json") -> Body:
        """One API request; while the server is away it is tried again, a refusal is raised at once."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                content = json.dumps(body) if body is not None else None
                answer = self._client().request(verb, path, content=content, headers={"Content-Type": content_type})
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
                continue
            if answer.status_code >= 400:
                found = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
                if answer.status_code in (429, 500, 503) and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                raise Refused(answer.status_code, found.get("message", answer.text))
            data: Body = answer.json()
            return data

    def path(self, plural: str, name: str = "", part: str = "") -> str:
        words = [PATHS[plural], "namespaces", self.namespace, plural, *(w for w in (name, part) if w)]
        return "/".join(words)

    def create(self, plural: str, manifest: Body) -> Body:
        return self.request("POST", self.path(plural), manifest)

    def get(self, plural: str, name: str) -> Body:
        return self.request("GET", self.path(plural, name))

    def find(self, plural: str, name: str) -> Body | None:
        """The object, or None where there is none."""
        try:
            return self.get(plural, name)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def list(self, plural: str) -> list[Body]:
        found: list[Body] = self.request("GET", self.path(plural))["items"]
        return found

    def deployments(self, pool: str) -> Sequence[Body]:
        """The Deployments of a pool's versions, oldest first."""
        found = self.request("GET", self.path("deployments") + f"?labelSelector={LABEL_POOL}%3D{pool}")["items"]
        return sorted(found, key=lambda body: str(body["metadata"]["creationTimestamp"]))

    def patch(self, plural: str, name: str, change: Body, part: str = "") -> Body:
        return self.request("PATCH", self.path(plural, name, part), change, "application/merge-patch+json")

    def delete(self, plural: str, name: str) -> None:
        self.request("DELETE", self.path(plural, name))

    def _client(self) -> httpx.Client:
        if self._http is None:
            self._http = make_client(self.kubeconfig)
        return self._http


def make_client(kubeconfig: Path) -> httpx.Client:
    """A client with the certificates of the kubeconfig's first user."""
    import base64
    import ssl

    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]

    def decode(data: str) -> str:
        return base64.b64decode(data).decode()

    context = ssl.create_default_context(cadata=decode(cluster["certificate-authority-data"]))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
        pair.write(decode(user["client-certificate-data"]) + "\n" + decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return httpx.Client(base_url=cluster["server"], verify=context, timeout=30.0)


def condition(body: Body | None, kind: str) -> Body:
    """The condition of that type, or {}."""
    conditions = ((body or {}).get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def until_answers(probe: Callable[[], object]) -> None:
    """Return when the probe no longer raises a transport error."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            probe()
        except (httpx.TransportError, Refused):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
