"""Values that would make a broken release are refused before anything is installed, in a sentence that helps."""

from typing import Any

import helm_python as helm
import pytest

from scripts.helm import VARIANTS, find_crd_drift, lint, merge, read_values, render, verify

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-operator": ({"replicaCount": 0}, "'/replicaCount': minimum: got 0, want 1"),
    "misspelt-value": ({"replicas": 2}, "additional properties 'replicas' not allowed"),
    "misspelt-below": ({"nats": {"storage": {"typ": "pvc"}}}, "additional properties 'typ' not allowed"),
    "unknown-storage": ({"nats": {"storage": {"type": "disk"}}}, "'pvc', 'emptyDir'"),
    "unclear-size": ({"nats": {"storage": {"size": "8G"}}}, "'/nats/storage/size': '8G' does not match"),
    "url-without-scheme": ({"nats": {"enabled": False, "url": "nats.example:4222"}}, "'/nats/url'"),
    "port-of-the-monitor": ({"nats": {"port": 8222}}, "'/nats/port'"),
    "even-replicas": ({"streams": {"replicas": 2}}, "'/streams/replicas'"),
    "foreign-setting": ({"env": {"PATH": "/tmp"}}, "'/env'"),
    "setting-not-a-string": ({"env": {"MILLPOND_TICK_SECONDS": 1}}, "got number, want string"),
    "dotted-namespace": ({"watchNamespace": "a.b"}, "'/watchNamespace'"),
    "no-broker-at-all": ({"nats": {"enabled": False}}, "nats.url must name your NATS server"),
    "two-brokers": ({"nats": {"url": "nats://nats.example:4222"}}, "set nats.enabled=false, or clear nats.url"),
    "copies-on-one-server": ({"streams": {"replicas": 3}}, "the embedded NATS is one server"),
    "account-nobody-named": ({"serviceAccount": {"create": False}}, "serviceAccount.name must name an account"),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_value_is_refused_and_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_renders_and_the_linter_holds_nothing_against_it(values: dict[str, Any]) -> None:
    assert lint(values) == []
    assert render(values)


def test_chart_ships_exactly_the_kinds_in_crds() -> None:
    assert find_crd_drift() == []


def test_verify_finds_nothing_wrong() -> None:
    assert verify() == []


def test_set_wins_over_file_and_keeps_its_neighbours(tmp_path: Any) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("nats: {port: 4300, storage: {type: emptyDir}}\nreplicaCount: 1\n")
    values = read_values([file], ["nats.port=4400", "replicaCount=3"])
    assert values == {"nats": {"port": 4400, "storage": {"type": "emptyDir"}}, "replicaCount": 3}


def test_merge_replaces_lists_and_leaves_its_arguments_alone() -> None:
    base = {"a": [1], "b": {"c": 1}}
    assert merge(base, {"a": [2], "b": {"d": 2}}) == {"a": [2], "b": {"c": 1, "d": 2}}
    assert base == {"a": [1], "b": {"c": 1}}
