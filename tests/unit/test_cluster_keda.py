"""KEDA's two processes as plain data: whole, and known by what `down` looks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cryptography import x509
from millpond_cluster.build.golang import PEER
from millpond_cluster.local import keda
from millpond_cluster.local.certificates import ensure_certificates, ensure_serving_folder
from millpond_cluster.local.client import object_path
from millpond_cluster.local.control_plane import Command, Facts
from millpond_cluster.local.lifecycle import _STOP_ORDER
from millpond_cluster.local.state import ClusterState, KedaPorts, Profile, read_state, write_state
from millpond_cluster.paths import ClusterPaths

from tests.unit.test_cluster_node import facts_of

PORTS = KedaPorts(health=21001, metrics_service=21002, adapter=21003, adapter_metrics=21004)


def commands(root: Path) -> dict[str, Command]:
    programs = {name: root / "bin" / name for want in PEER for name in want.programs}
    facts: Facts = replace(facts_of(root, Profile.CONTROL_PLANE), programs=programs)
    made = (keda.make_operator(facts, PORTS, root / "c"), keda.make_adapter(facts, PORTS, root / "c"))
    return {command.name: command for command in made}


def test_keda_goes_with_the_cluster_and_before_what_it_talks_to() -> None:
    assert {keda.OPERATOR, keda.ADAPTER} <= set(_STOP_ORDER[0])


def test_the_adapter_finds_the_operator_under_a_name_that_its_certificate_has(tmp_path: Path) -> None:
    made = commands(tmp_path)
    assert "--metrics-service-bind-address=127.0.0.1:21002" in made[keda.OPERATOR].argv
    assert "--metrics-service-address=localhost:21002" in made[keda.ADAPTER].argv
    ensure_certificates(tmp_path / "certificates", "x-node", ["localhost"])
    ensure_serving_folder(tmp_path / "certificates", tmp_path / "keda", keda.SERVER_NAMES)
    certificate = x509.load_pem_x509_certificate((tmp_path / "keda" / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert (tmp_path / "keda" / "ca.crt").read_bytes() == (tmp_path / "certificates" / "ca.crt").read_bytes()


def test_a_second_start_keeps_the_certificate_that_the_operator_has_loaded(tmp_path: Path) -> None:
    ensure_certificates(tmp_path / "certificates", "x-node", ["localhost"])
    made = []
    for _ in range(2):
        ensure_serving_folder(tmp_path / "certificates", tmp_path / "keda", keda.SERVER_NAMES)
        made.append((tmp_path / "keda" / "tls.crt").read_bytes())
    assert made[0] == made[1]


def test_the_aggregated_api_leads_to_the_adapter(tmp_path: Path) -> None:
    state = facts_of(tmp_path, Profile.CONTROL_PLANE).state
    made = {manifest["kind"]: manifest for manifest in keda.make_metrics_api(state, PORTS)}
    assert made["EndpointSlice"]["endpoints"][0]["addresses"] == [state.host_address]
    assert made["EndpointSlice"]["ports"][0]["port"] == PORTS.adapter
    labels = made["EndpointSlice"]["metadata"]["labels"]
    assert labels["kubernetes.io/service-name"] == made["APIService"]["spec"]["service"]["name"]
    assert object_path(made["APIService"]) == f"/apis/apiregistration.k8s.io/v1/apiservices/{keda.METRICS_API}"
    definition = object_path(keda.make_scaled_job_definition())
    assert definition == "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scaledjobs.keda.sh"


def test_a_record_of_a_cluster_made_before_keda_is_still_read(tmp_path: Path) -> None:
    paths = ClusterPaths("x", tmp_path)
    state: ClusterState = facts_of(tmp_path, Profile.NODE).state
    paths.state_file.write_text(state.model_dump_json(exclude={"keda"}))
    assert read_state(paths) == state
    write_state(paths, state.model_copy(update={"keda": PORTS}))
    found = read_state(paths)
    assert found is not None
    assert found.keda == PORTS
