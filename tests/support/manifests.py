"""Looking into rendered manifests: which objects, which pods, which rules. It reads plain data and renders nothing."""

from collections.abc import Iterator
from typing import Any

import pytest

from scripts.helm import VARIANTS

Manifest = dict[str, Any]

every_variant = pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())


def of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    return [item for item in objects if item["kind"] in kinds]


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"] == name]
    return found


def pod_specs(objects: list[Manifest]) -> Iterator[Manifest]:
    for item in of_kind(objects, "Deployment", "StatefulSet", "Job"):
        yield item["spec"]["template"]["spec"]


def rules(objects: list[Manifest]) -> Iterator[Manifest]:
    for item in of_kind(objects, "Role", "ClusterRole"):
        yield from item["rules"]
