"""KEDA on a cluster that runs: `millpond-cluster keda up` and `down`.

Owns building it (only when asked for: ten minutes the first time), its start beside the other components, and its end.
Its two processes are components of the cluster like any other, so the cluster's own `down` stops them too, by pid.
It must not touch other components. Survives a kill in between: `up` completes what it finds, and `down` removes the
aggregated API even where KEDA is dead already, because an API without a server blocks the deletion of any namespace.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from millpond_cluster.build import golang
from millpond_cluster.errors import ClusterError
from millpond_cluster.local import keda
from millpond_cluster.local.certificates import ensure_serving_folder
from millpond_cluster.local.client import ApiClient
from millpond_cluster.local.components import Components
from millpond_cluster.local.control_plane import Facts
from millpond_cluster.local.state import ClusterState, KedaPorts, read_state, write_state
from millpond_cluster.locks import hold
from millpond_cluster.paths import ClusterPaths
from millpond_cluster.report import Reporter

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/scaledobjects"
_EXTERNAL_METRICS = "/apis/external.metrics.k8s.io/v1beta1"
_FINALIZER_SECONDS = 20.0


class Keda:
    """KEDA of one named cluster of host processes."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self._paths = ClusterPaths.of(name)
        self._reporter = reporter

    def up(self) -> None:
        """KEDA runs and the API server answers for its metrics; seconds when it runs already."""
        self._require_state()
        programs = golang.ensure_programs(golang.PEER, self._reporter)
        with self._lock(), self._reporter.step(f"start KEDA {golang.KEDA_VERSION}"):
            state = self._require_state()
            state.keda = state.keda or KedaPorts.choose()
            self._start(Facts(self._paths, state, programs), state.keda)

    def _start(self, facts: Facts, ports: KedaPorts) -> None:
        client = self._client(facts.state)
        for file in sorted(facts.programs["keda-crds"].glob("*.yaml")):
            group, _, plural = file.stem.partition("_")
            if plural != "scaledjobs":
                client.apply_text(f"{_DEFINITIONS}/{plural}.{group}", file.read_text(encoding="utf-8"))
        client.apply(keda.make_scaled_job_definition())
        certificates = self._paths.certificates / "keda"
        ensure_serving_folder(self._paths.certificates, certificates, keda.SERVER_NAMES)
        components = Components(self._paths, facts.state)
        components.wait_until(lambda: client.read(_SCALED_OBJECTS) is not None, "KEDA's kinds", needs=[])
        for manifest in keda.make_metrics_api(facts.state, ports):
            client.apply(manifest)
        components.ensure(keda.make_operator(facts, ports, certificates))
        components.ensure(keda.make_adapter(facts, ports, certificates))
        needs = [keda.OPERATOR, keda.ADAPTER]
        components.wait_until(lambda: client.read(_EXTERNAL_METRICS) is not None, "KEDA's metrics API", needs=needs)

    def down(self) -> bool:
        """Stops KEDA and removes its objects; tells whether there was anything of it."""
        with self._lock():
            state = self._require_state()
            client = self._client(state)
            metrics_api = f"/apis/apiregistration.k8s.io/v1/apiservices/{keda.METRICS_API}"
            existed = state.keda is not None or client.read(metrics_api) is not None
            if existed:
                with self._reporter.step("stop KEDA"):
                    self._release_scaled_objects(client)
                    client.delete(metrics_api)
                    Components(self._paths, state).stop([keda.OPERATOR, keda.ADAPTER])
                    client.delete(f"/api/v1/namespaces/{keda.NAMESPACE}")
                    self._forget(state)
        return existed

    def _release_scaled_objects(self, client: ApiClient) -> None:
        """They hold a finalizer that only KEDA's operator takes off: they go while it still runs."""
        deadline = time.monotonic() + _FINALIZER_SECONDS
        while (items := (client.read(_SCALED_OBJECTS) or {}).get("items")) and time.monotonic() < deadline:
            for item in items:
                place, name = item["metadata"]["namespace"], item["metadata"]["name"]
                client.delete(f"/apis/keda.sh/v1alpha1/namespaces/{place}/scaledobjects/{name}")
            time.sleep(0.2)
        if items:
            self._reporter.say(
                f"{len(items)} ScaledObjects stay, because KEDA's operator did not let them go: "
                "`millpond-cluster keda up` and `down` again"
            )

    def _forget(self, state: ClusterState) -> None:
        state.keda = None
        for name in (keda.OPERATOR, keda.ADAPTER):
            state.components.pop(name, None)
        write_state(self._paths, state)

    def _require_state(self) -> ClusterState:
        state = read_state(self._paths)
        if state is None or not self._client(state).is_ready():
            raise ClusterError(
                f"KEDA needs a cluster of host processes that runs: millpond-cluster up --name {self._paths.name} "
                "(on kind install its own chart: helm install keda kedacore/keda "
                f"--version {golang.KEDA_VERSION.removeprefix('v')} --namespace keda --create-namespace)"
            )
        return state

    def _client(self, state: ClusterState) -> ApiClient:
        return ApiClient(state.ports.apiserver, self._paths.certificates)

    def _lock(self) -> AbstractContextManager[None]:
        return hold(self._paths.lock_file, self._reporter, f"the cluster {self._paths.name}")
