"""How a release behaves: what it tells the operator, what survives what, and in which order it goes away."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from millpond_operator.settings import Settings
from millpond_operator.uninstall import UninstallSettings

from scripts.helm import VARIANTS, render
from tests.support.manifests import every_variant, named, of_kind, pod_specs
from tests.support.nats import find_binary

SIZES = {"8Gi": "7372Mi", "512Mi": "460Mi", "2Ti": "1887436Mi"}


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}


def operator_pod(values: dict[str, Any]) -> dict[str, Any]:
    (pod,) = pod_specs(of_kind(render(values), "Deployment"))
    return pod


def nats_config(values: dict[str, Any]) -> str:
    return str(named(render(values), "ConfigMap", "mill-nats")["data"]["nats.conf"])


def selectors(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, str]]]:
    for item in objects:
        if item["kind"] == "Service":
            yield item["metadata"]["name"], item["spec"]["selector"]
        if item["kind"] in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            yield item["metadata"]["name"], item["spec"]["selector"]["matchLabels"]
        if item["kind"] == "NetworkPolicy":
            yield item["metadata"]["name"], item["spec"]["podSelector"]["matchLabels"]


@every_variant
def test_operator_understands_every_setting_it_is_given(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that the operator doesn't read would be a setting without effect."""
    given = environment(operator_pod(values))
    known = {f"MILLPOND_{name.upper()}" for name in Settings.model_fields} | {"POD_NAME", "POD_NAMESPACE"}
    assert given.keys() <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.watch_namespace == values.get("watchNamespace", "")
    assert settings.url_for_workers.startswith("nats://")


@pytest.mark.parametrize(
    ("values", "operators", "workers"),
    [
        ({}, "nats://mill-nats.pond.svc:4222", "nats://mill-nats.pond.svc:4222"),
        ({"nats": {"port": 4300}}, "nats://mill-nats.pond.svc:4300", "nats://mill-nats.pond.svc:4300"),
        ({"nats": {"enabled": False, "url": "tls://a:1,tls://b:1"}}, "tls://a:1,tls://b:1", "tls://a:1,tls://b:1"),
        ({"nats": {"workerUrl": "nats://w:1"}}, "nats://mill-nats.pond.svc:4222", "nats://w:1"),
    ],
    ids=["embedded", "other-port", "external", "own-url-for-workers"],
)
def test_operator_and_workers_are_told_the_broker_that_exists(
    values: dict[str, Any], operators: str, workers: str
) -> None:
    given = environment(operator_pod(values))
    assert (given["MILLPOND_NATS_URL"], given["MILLPOND_WORKER_NATS_URL"]) == (operators, workers)


@every_variant
def test_no_selector_takes_pods_of_another_component(values: dict[str, Any]) -> None:
    """The uninstall Job's pod must never be behind the operator's Service, nor count in its disruption budget."""
    objects = render(values)
    labels = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in of_kind(objects, "Deployment", "StatefulSet", "Job")
    }
    for name, selector in selectors(objects):
        taken = {owner for owner, have in labels.items() if selector.items() <= have.items()}
        assert taken == {name.removesuffix("-headless")}


@pytest.mark.parametrize("values", [VARIANTS["default"], VARIANTS["empty-dir"], VARIANTS["everything"]])
def test_server_accepts_the_rendered_configuration(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "nats.conf"
    file.write_text(nats_config(values).replace('"/data"', f'"{tmp_path}/data"'))
    checked = subprocess.run(
        [find_binary(), "-t", "-c", file],
        env={"POD_NAME": "mill-nats-0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("size", "limit"), SIZES.items())
def test_jetstream_refuses_before_the_volume_is_full(size: str, limit: str) -> None:
    assert f"max_file_store: {limit}" in nats_config({"nats": {"storage": {"size": size}}})


def test_queues_outlive_pod_and_release() -> None:
    server = named(render({}), "StatefulSet", "mill-nats")
    assert server["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = server["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "8Gi"}}
    assert "storageClassName" not in claim["spec"]


def test_changed_configuration_restarts_the_broker() -> None:
    def annotation(values: dict[str, Any]) -> str:
        server = named(render(values), "StatefulSet", "mill-nats")
        return str(server["spec"]["template"]["metadata"]["annotations"]["millpond.dev/config"])

    assert annotation({}) == annotation({"replicaCount": 1})
    assert annotation({}) != annotation({"nats": {"maxPayload": "2MB"}})


def test_workers_drain_before_their_broker_goes() -> None:
    """Every part of the hook runs before the release's objects are deleted, and its rights before its Job."""
    objects = render({})
    hooks = [item for item in objects if "helm.sh/hook" in item["metadata"].get("annotations", {})]
    assert {item["metadata"]["annotations"]["helm.sh/hook"] for item in hooks} == {"pre-delete"}
    assert {item["metadata"]["labels"]["app.kubernetes.io/component"] for item in hooks} == {"uninstall"}
    order = {item["kind"]: int(item["metadata"]["annotations"]["helm.sh/hook-weight"]) for item in hooks}
    job = order.pop("Job")
    assert all(weight < job for weight in order.values())
    assert "StatefulSet" not in order


@pytest.mark.parametrize("served", ["", "team-a"])
def test_uninstall_job_is_told_what_to_stop_and_may_do_it(served: str) -> None:
    objects = render({"watchNamespace": served})
    (pod,) = pod_specs(of_kind(objects, "Job"))
    given = environment(pod)
    assert given["MILLPOND_OPERATOR_DEPLOYMENT"] == named(objects, "Deployment", "mill-operator")["metadata"]["name"]
    assert given["MILLPOND_WATCH_NAMESPACE"] == served
    assert pod["containers"][0]["image"] == operator_pod({})["containers"][0]["image"]
    own = named(objects, "Role", "mill-uninstall-operator")["rules"]
    assert {(rule["resources"][0], *rule["verbs"], *rule["resourceNames"]) for rule in own} == {
        ("deployments", "get", "mill-operator"),
        ("deployments/scale", "patch", "mill-operator"),
    }
    wide = named(objects, "Role" if served else "ClusterRole", "mill-uninstall")["rules"]
    assert {(rule["resources"][0], *rule["verbs"]) for rule in wide} == {
        ("deployments", "list", "delete"),
        ("pods", "list"),
        ("poddisruptionbudgets", "list", "delete"),
    }


def test_uninstall_job_understands_every_setting_and_speaks_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (job,) = of_kind(render({"uninstall": {"timeoutSeconds": 100}}), "Job")
    given = environment(job["spec"]["template"]["spec"])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert given.keys() - {"POD_NAMESPACE"} <= {f"MILLPOND_{name.upper()}" for name in UninstallSettings.model_fields}
    assert UninstallSettings().uninstall_seconds < job["spec"]["activeDeadlineSeconds"] == 100


def test_without_the_hook_nothing_of_it_is_left() -> None:
    objects = render({"uninstall": {"hook": False}})
    assert not [item for item in objects if "uninstall" in item["metadata"]["name"]]


def test_the_operators_login_at_nats_comes_from_a_secret() -> None:
    secret = {"secretRef": {"name": "nats-login"}}
    assert operator_pod({"envFrom": [secret]})["containers"][0]["envFrom"] == [secret]
