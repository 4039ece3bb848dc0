"""What the components of a cluster are told, as plain data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from millpond_cluster.errors import ClusterError
from millpond_cluster.local import control_plane, node, objects, provisioner
from millpond_cluster.local.client import Object
from millpond_cluster.local.control_plane import Facts
from millpond_cluster.local.node_images import make_node_name
from millpond_cluster.local.state import ClusterState, Ports, Profile, read_state, write_state
from millpond_cluster.paths import ClusterPaths, check_name

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "containerd",
)


def facts_of(root: Path, profile: Profile) -> Facts:
    ports = Ports(**{name: 20000 + number for number, name in enumerate(Ports.model_fields)})
    state = ClusterState(name="x", profile=profile, host_address="192.0.2.9", ports=ports)
    return Facts(ClusterPaths("x", root / "x"), state, {name: root / "bin" / name for name in PROGRAMS})


def test_the_node_writes_only_below_the_clusters_folder(tmp_path: Path) -> None:
    """Otherwise `down` would have to guess what belongs to it."""
    facts = facts_of(tmp_path, Profile.NODE)
    texts = [
        node.make_containerd_config(facts),
        node.make_network_config(facts),
        node.make_kubelet_config(facts, "/millpond-x"),
        node.make_proxy_config(facts),
        node.make_dns_config(facts),
        " ".join(node.make_kubelet(facts).argv),
    ]
    paths = {path for text in texts for path in re.findall(r"(?<![\w.:/])/[\w.-]+(?:/[\w.-]+)+", text)}
    allowed = (str(tmp_path), str(node.CNI_PLUGINS))
    assert [path for path in paths if not path.startswith(allowed)] == []


@pytest.mark.parametrize("profile", [Profile.CONTROL_PLANE, Profile.KWOK])
def test_without_a_node_the_api_is_bound_to_loopback(tmp_path: Path, profile: Profile) -> None:
    assert "--bind-address=127.0.0.1" in control_plane.make_apiserver(facts_of(tmp_path, profile)).argv


def test_with_a_node_pods_can_reach_the_api_at_a_certified_address(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, Profile.NODE)
    assert "--advertise-address=192.0.2.9" in control_plane.make_apiserver(facts).argv
    assert {"192.0.2.9", control_plane.API_SERVICE_ADDRESS, "127.0.0.1"} <= set(control_plane.make_server_names(facts))


def test_controllers_survive_the_death_of_the_api_server(tmp_path: Path) -> None:
    """With an election they would end themselves when they cannot renew their lease."""
    facts = facts_of(tmp_path, Profile.NODE)
    assert "--leader-elect=false" in control_plane.make_controller_manager(facts).argv
    assert json.loads(control_plane.make_scheduler_config(facts))["leaderElection"] == {"leaderElect": False}


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("app", "docker.io/library/app:latest"),
        ("app:v1", "docker.io/library/app:v1"),
        ("team/app:v1", "docker.io/team/app:v1"),
        ("localhost/app:dev", "localhost/app:dev"),
        ("registry.example:5000/app", "registry.example:5000/app:latest"),
    ],
)
def test_an_image_gets_the_name_that_the_kubelet_asks_for(image: str, name: str) -> None:
    assert make_node_name(image) == name


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "-a", "a" * 41, "..", "a b"])
def test_a_name_that_cannot_be_a_folder_and_a_host_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cluster name"):
        check_name(name)


def test_ports_are_all_different() -> None:
    ports = list(Ports.choose().model_dump().values())
    assert len(set(ports)) == len(ports)


def test_state_survives_the_disk_and_a_broken_record_counts_as_none(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, Profile.NODE)
    assert read_state(facts.paths) is None
    write_state(facts.paths, facts.state)
    assert read_state(facts.paths) == facts.state
    facts.paths.state_file.write_text(facts.paths.state_file.read_text()[:40])
    assert read_state(facts.paths) is None


def test_dns_service_and_endpoint_agree_on_ports(tmp_path: Path) -> None:
    *_, service, endpoints = objects.make_dns_objects(facts_of(tmp_path, Profile.NODE).state)
    targets = {(port["name"], port["protocol"]): port["targetPort"] for port in service["spec"]["ports"]}
    assert targets == {(port["name"], port["protocol"]): port["port"] for port in endpoints["ports"]}


def test_a_volume_is_named_by_the_claims_uid_so_that_a_second_try_makes_the_same(tmp_path: Path) -> None:
    claim: Object = {
        "metadata": {"namespace": "n", "name": "data-nats-0", "uid": "123"},
        "spec": {
            "storageClassName": "standard",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    assert provisioner.is_waiting(claim)
    volume = provisioner.make_volume(claim, tmp_path)
    assert volume == provisioner.make_volume(claim, tmp_path)
    assert volume["spec"]["claimRef"]["uid"] == "123"
    assert not provisioner.is_waiting({**claim, "spec": {**claim["spec"], "volumeName": "pvc-123"}})
    assert not provisioner.is_waiting({**claim, "spec": {**claim["spec"], "storageClassName": "other"}})
