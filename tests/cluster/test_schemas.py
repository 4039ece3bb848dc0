"""What `kubectl explain` and `kubectl get` tell of the kinds."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.kube import Kube
from tests.support.works import pool_manifest


def undescribed(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Fields without a description, at any depth."""
    for name, sub in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        # Kubernetes itself describes metadata.
        if here != "metadata":
            if not sub.get("description"):
                yield here
            yield from undescribed(sub, here)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from undescribed(schema[part], f"{path}[]")


@pytest.mark.parametrize("plural", ["workerpools", "poolgroups", "supervisors", "tasks", "workers"])
def test_every_field_of_every_kind_has_a_description(installed: Kube, plural: str) -> None:
    name = f"{plural}.millpond.dev"
    body = installed.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
    schema = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["description"]
    assert list(undescribed(schema)) == []


def test_explain_tells_every_field_of_scaling(installed: Kube) -> None:
    said = installed.kubectl("explain", "workerpool.spec.scaling")
    for field in ("minWorkers", "maxWorkers", "target", "scaleDown", "idleAfter", "pause"):
        assert field in said
    assert "Never more workers than this." in said


def test_what_the_api_server_fills_in_is_what_is_in_force(kube: Kube) -> None:
    spec = {"image": "worker:none", "app": "census:app"}
    manifest = {**pool_manifest("plain"), "spec": spec}
    stored = kube.create("workerpools", manifest)["spec"]
    assert stored["scaling"]["maxWorkers"] == 10
    assert stored["scaling"]["scaleDown"] == {"stabilization": "5s", "selectPolicy": "Max", "tolerance": 0}
    assert stored["retry"]["backoff"]["initial"]
    assert "replicas" not in stored


@pytest.mark.parametrize("short", ["wp", "wpg", "mt", "mw", "millpond"])
def test_short_names_and_the_category_work(kube: Kube, short: str) -> None:
    assert "error" not in kube.kubectl("get", short).lower()
