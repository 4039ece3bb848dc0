"""The Deployment of a pool's workers: safe by default, told what it needs, and open to the user's template."""

import json
from typing import Any

import pytest
from millpond.settings import ResultSettings
from millpond.worker.understudy import LONGEST
from millpond_api import LABEL_BUSY, LABEL_VERSION
from millpond_api.events import MAX_INLINE_RESULT
from millpond_api.v1alpha1 import WorkerPoolSpec
from millpond_operator.cluster_key import PoolKey
from millpond_operator.resources.deployment import HASH, make_deployment, merge

POOL = PoolKey("team", "mill")
URL = "nats://nats:4222"


def make(replicas: int = 0, url: str = URL, **fields: Any) -> dict[str, Any]:
    spec = WorkerPoolSpec.model_validate({"image": "mill:1", "app": "mill:app"} | fields)
    return make_deployment(POOL, spec, url, replicas)


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def worker(manifest: dict[str, Any]) -> dict[str, Any]:
    return next(container for container in pod(manifest)["containers"] if container["name"] == "worker")


def environment(manifest: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in worker(manifest)["env"]}


def test_the_worker_has_no_rights_on_node_and_api_server() -> None:
    manifest = make()
    assert pod(manifest)["automountServiceAccountToken"] is False
    assert pod(manifest)["securityContext"]["runAsNonRoot"] is True
    assert pod(manifest)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = worker(manifest)["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_kubelet_waits_longer_than_the_worker_drains() -> None:
    manifest = make(shutdown={"gracePeriod": "1m30s"})
    assert environment(manifest)["MILLPOND_GRACE"] == "90"
    assert pod(manifest)["terminationGracePeriodSeconds"] == 95


def test_a_worker_whose_interpreter_is_held_is_not_restarted_while_its_understudy_keeps_its_leases() -> None:
    probe = worker(make())["livenessProbe"]
    # The first probe that fails may come at once, the last one is given its timeout.
    patience = probe["periodSeconds"] * (probe["failureThreshold"] - 1) + probe["timeoutSeconds"]
    assert 60 < LONGEST - 15 < patience <= LONGEST


def test_every_version_has_a_name_a_label_and_pods_of_its_own() -> None:
    old, new = make(), make(image="mill:2")
    versions = [one["metadata"]["labels"][LABEL_VERSION] for one in (old, new)]
    assert len(set(versions)) == 2
    assert [one["metadata"]["name"] for one in (old, new)] == [f"mill-worker-{version}" for version in versions]
    for manifest, version in zip((old, new), versions, strict=True):
        assert manifest["spec"]["selector"]["matchLabels"][LABEL_VERSION] == version
        assert manifest["spec"]["template"]["metadata"]["labels"][LABEL_VERSION] == version


def test_the_worker_is_told_its_pool() -> None:
    told = environment(make(concurrency=4, timeouts={"lease": "7s"}, queue={"classes": ["urgent", "default"]}))
    assert told["MILLPOND_NATS_URL"] == URL
    assert (told["MILLPOND_NAMESPACE"], told["MILLPOND_POOL"], told["MILLPOND_APP"]) == ("team", "mill", "mill:app")
    assert (told["MILLPOND_CONCURRENCY"], told["MILLPOND_LEASE"]) == ("4", "7")
    assert told["MILLPOND_CLASSES"] == "urgent,default"
    assert (json.loads(told["MILLPOND_WEIGHTS"]), told["MILLPOND_PRIORITY"]) == (
        {"urgent": 2, "default": 1},
        "Weighted",
    )
    assert json.loads(told["MILLPOND_RETRY"])["max_attempts"] >= 1


def test_a_users_variable_cannot_take_the_place_of_the_workers_own() -> None:
    names = [one["name"] for one in worker(make(env=[{"name": "MILLPOND_POOL", "value": "other"}]))["env"]]
    values = [one.get("value") for one in worker(make(env=[{"name": "MILLPOND_POOL", "value": "other"}]))["env"]]
    # The kubelet takes the last of a name.
    assert values[len(names) - 1 - names[::-1].index("MILLPOND_POOL")] == "mill"


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"image": "mill:2"}, True, id="image"),
        pytest.param({"concurrency": 3}, True, id="concurrency"),
        pytest.param({"url": "nats://other:4222"}, True, id="url"),
        pytest.param({"replicas": 5}, False, id="replicas: set by the scale subresource alone"),
        pytest.param({"scaling": {"maxWorkers": 3}}, False, id="scaling: no rollout for a bound"),
        pytest.param({"queue": {"maxDepth": 3}}, False, id="depth: no rollout for the queue"),
    ],
)
def test_the_hash_changes_with_what_the_pods_are_made_from(change: dict[str, Any], changes: bool) -> None:
    before, after = (one["metadata"]["annotations"][HASH] for one in (make(), make(**change)))
    assert (before != after) is changes


def test_a_new_worker_is_protected_from_evictions_until_it_has_been_idle() -> None:
    manifest = make()
    assert manifest["spec"]["template"]["metadata"]["labels"][LABEL_BUSY] == "true"
    assert LABEL_BUSY not in manifest["spec"]["selector"]["matchLabels"], "or the label could never be taken back"


def test_the_garbage_collector_does_not_stop_its_workers_with_the_pool() -> None:
    assert "ownerReferences" not in make()["metadata"]


def test_the_users_template_is_merged_by_names() -> None:
    template = {
        "metadata": {"labels": {"team": "a", "millpond.dev/pool": "other"}, "annotations": {"note": "b"}},
        "spec": {
            "nodeSelector": {"disk": "ssd"},
            "containers": [
                {"name": "worker", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
                {"name": "sidecar", "image": "side:1"},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    manifest = make(template=template)
    assert pod(manifest)["nodeSelector"] == {"disk": "ssd"}
    assert [container["name"] for container in pod(manifest)["containers"]] == ["worker", "sidecar"]
    assert worker(manifest)["image"] == "mill:1"
    assert [mount["name"] for mount in worker(manifest)["volumeMounts"]] == ["tmp", "data"]
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "a"
    assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("base", "over", "merged"),
    [
        pytest.param({"a": 1}, {"b": 2}, {"a": 1, "b": 2}, id="keys of both"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, {"a": {"b": 2}}, id="the user's value wins"),
        pytest.param([{"name": "x", "v": 1}], [{"name": "x", "w": 2}], [{"name": "x", "v": 1, "w": 2}], id="by name"),
        pytest.param([1, 2], [3], [3], id="plain lists are replaced"),
    ],
)
def test_merging(base: Any, over: Any, merged: Any) -> None:
    assert merge(base, over) == merged


def test_an_image_given_only_in_the_template_is_kept() -> None:
    template = {"spec": {"containers": [{"name": "worker", "image": "own:1"}]}}
    spec = WorkerPoolSpec.model_validate({"app": "mill:app", "template": template})
    assert worker(make_deployment(POOL, spec, URL, 1))["image"] == "own:1"


def test_the_worker_is_told_what_the_pool_says_of_results_and_nothing_else() -> None:
    assert "MILLPOND_RESULTS" not in environment(make())
    told = environment(make(results={"ttl": "1h", "inlineMax": "2Mi", "codecs": ["json"], "pickle": True}))
    assert ResultSettings.model_validate_json(told["MILLPOND_RESULTS"]) == ResultSettings(
        ttl=3600, inline_max=MAX_INLINE_RESULT, codecs=("json",), pickle=True
    )


def test_the_worker_is_told_of_leases_only_where_the_pool_says_so() -> None:
    assert "MILLPOND_LEASES" not in environment(make())
    said = json.loads(environment(make(leases={"ttl": "30s", "maxDuration": "1h"}))["MILLPOND_LEASES"])
    assert said == {"ttl": 30.0, "max_duration": 3600.0}


def test_the_worker_is_told_how_long_letters_are_kept_only_where_the_pool_says_so() -> None:
    assert "MILLPOND_LETTER_TTL" not in environment(make())
    assert environment(make(deadLetter={"retention": "72h"}))["MILLPOND_LETTER_TTL"] == "259200"


def test_the_worker_is_told_how_many_crashes_its_pod_survives_only_where_the_pool_says_so() -> None:
    assert not any(name.startswith("MILLPOND_RESTART") for name in environment(make()))
    told = environment(make(supervision={"intensity": 0, "period": "1m"}))
    assert (told["MILLPOND_RESTART_INTENSITY"], told["MILLPOND_RESTART_PERIOD"]) == ("0", "60")
