"""A ScaledObject becomes a WorkerPool that means the same, and what it cannot mean is named; nothing is lost."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from millpond_api.v1alpha1 import WorkerPool
from millpond_cli.main import app
from millpond_scaling.keda import Choice, Conversion, ImportRefused, convert
from millpond_scaling.model import Behavior, RatePolicy, Schedule
from millpond_scaling.policy import make_policy
from typer.testing import CliRunner

FILES = Path(__file__).parent / "scaledobjects"


def load(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / name).read_text()))


def made(name: str, choice: Choice | None = None) -> Conversion:
    scaled, *rest = load(name)
    return convert(scaled, rest[0] if rest else None, choice)


def policy(conversion: Conversion) -> Any:
    return make_policy(WorkerPool.model_validate(conversion.manifest).spec)


def noted(conversion: Conversion) -> dict[str, str]:
    return {note.field: note.text for note in conversion.notes}


def changed(name: str, path: list[Any], value: Any) -> Conversion:
    """The file's ScaledObject with one thing in it changed."""
    scaled = deepcopy(load(name)[0])
    place = scaled
    for key in path[:-1]:
        place = place[key] if isinstance(key, int) else place.setdefault(key, {})
    place[path[-1]] = value
    return convert(scaled)


def test_what_is_not_written_gets_kedas_bounds_and_millponds_speed() -> None:
    found = made("plain.yaml")
    assert found.manifest["metadata"] == {"name": "orders", "namespace": "shop"}
    assert found.manifest["spec"]["scaling"] == {
        "minWorkers": 0, "maxWorkers": 100, "target": {"lagPerSlot": 10}
    }  # fmt: skip


def test_with_defaults_the_hpas_own_limits_are_written_out() -> None:
    found = policy(made("plain.yaml", Choice(defaults=True)))
    assert found.idle_after == 300
    up = Behavior(0.0, (RatePolicy("Percent", 100, 15.0), RatePolicy("Pods", 4, 15.0)), "Max", 0.1)
    assert found.scale_up == up
    assert found.scale_down == Behavior(300.0, (RatePolicy("Percent", 100, 15.0),), "Max", 0.1)


def test_speed_hours_bounds_and_pauses_come_over() -> None:
    found = policy(made("full.yaml"))
    assert (found.min_workers, found.max_workers, found.idle_after) == (0, 40, 60.0)
    assert (found.lag_per_slot, found.activation, found.pause) == (20, 5, "Down")
    assert found.scale_up.policies == (RatePolicy("Percent", 200, 15.0), RatePolicy("Pods", 10, 30.0))
    assert found.scale_down == Behavior(120.0, (RatePolicy("Percent", 50, 60.0),), "Max", 0.05)
    assert found.schedules == (
        Schedule("office-hours", "0 8 * * 1-5", "0 18 * * 1-5", "Europe/Berlin", min_workers=10),
    )


def test_the_worker_comes_from_the_deployment_and_the_named_container() -> None:
    spec = made("full.yaml", Choice(app="invoices:app")).manifest["spec"]
    assert (spec["image"], spec["app"], spec["shutdown"]) == (
        "registry.example/invoices:7", "invoices:app", {"gracePeriod": "90s"}
    )  # fmt: skip
    assert spec["env"] == [{"name": "MODE", "value": "live"}]
    assert spec["resources"] == {"requests": {"cpu": "250m"}}


def test_a_threshold_is_shared_by_the_slots_of_a_worker() -> None:
    found = policy(made("full.yaml", Choice(concurrency=4)))
    assert (found.slots, found.lag_per_slot) == (4, 5)


NO_EQUIVALENT = {
    "plain.yaml": {
        "spec.scaleTargetRef": "--image",
        "spec.triggers[0].metadata.stream": "submit tasks",
        "spec.triggers[0].metadata.natsServerMonitoringEndpoint": "nats.url",
        "spec.triggers[0].metadata.lagThreshold": "each running task its slot",
    },
    "full.yaml": {
        "spec.pollingInterval": "wakes its pool by push",
        "spec.initialCooldownPeriod": "starts at minWorkers",
        "spec.idleReplicaCount": "warmWorkers",
        "spec.fallback": "static with 6 replicas",
        "spec.advanced.restoreToOriginalReplicaCount": "nothing is left to restore",
        "spec.advanced.horizontalPodAutoscalerConfig.name": "no HorizontalPodAutoscaler",
        "spec.scaleTargetRef": "spec.template",
    },
    "formula.yaml": {
        "spec.scaleTargetRef.kind": "Rollout",
        "spec.fallback": "not needed",
        "spec.advanced.scalingModifiers.formula": "'(pictures + films) / 2'",
        "spec.advanced.scalingModifiers.target": "belongs to the formula",
        "spec.triggers[0].metricType": "Value multiplies",
        "spec.triggers[0].authenticationRef": "not needed",
        "spec.triggers[1].metadata.stream": "a pool has one queue",
        "spec.triggers[2].type": "not on CPU",
        "spec.triggers[3].type": "redis: no equivalent",
    },
}


@pytest.mark.parametrize(
    ("name", "field", "says"),
    [(name, field, says) for name, notes in NO_EQUIVALENT.items() for field, says in notes.items()],
)
def test_what_has_no_equivalent_is_named_with_what_to_do_instead(name: str, field: str, says: str) -> None:
    assert says in " ".join(note.text for note in made(name).notes if note.field == field)


def test_paused_replicas_is_a_number_set_by_hand() -> None:
    assert policy(made("formula.yaml")).manual == 3


@pytest.mark.parametrize(
    ("annotations", "pause"),
    [
        ({"paused": "true"}, "All"),
        ({"paused": ""}, "All"),
        ({"paused": "false"}, "None"),
        ({"paused-scale-in": "1"}, "Down"),
        ({"paused-scale-out": "true"}, "Up"),
        ({"paused-scale-in": "true", "paused-scale-out": "true"}, "All"),
    ],
    ids=str,
)
def test_pauses_hold_the_same_direction(annotations: dict[str, str], pause: str) -> None:
    values = {f"autoscaling.keda.sh/{name}": value for name, value in annotations.items()}
    assert policy(changed("plain.yaml", ["metadata", "annotations"], values)).pause == pause


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (["spec", "novelty"], "spec.novelty"),
        (["spec", "advanced", "novelty"], "spec.advanced.novelty"),
        (["spec", "triggers", 0, "metadata", "novelty"], "spec.triggers[0].metadata.novelty"),
        (["metadata", "annotations", "autoscaling.keda.sh/novelty"], "metadata.annotations.novelty"),
    ],
)
def test_a_field_that_is_not_known_is_named(path: list[Any], field: str) -> None:
    assert "was left out" in noted(changed("plain.yaml", path, "x"))[field]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["kind"], "ScaledJob", "a WorkerPool takes its place"),
        (["kind"], "Deployment", "not a ScaledObject"),
        (["spec", "minReplicaCount"], 200, "greater than maxReplicaCount 100"),
        (["spec", "cooldownPeriod"], "a while", "spec.cooldownPeriod is 'a while'"),
        (["spec", "triggers", 0, "metadata", "lagThreshold"], "0", "at least 1"),
        (["spec", "triggers", 0, "metadata"], "x", "spec.triggers[0].metadata is not an object"),
    ],
)
def test_what_cannot_be_converted_is_refused_with_its_place(path: list[Any], value: Any, says: str) -> None:
    with pytest.raises(ImportRefused) as refused:
        changed("plain.yaml", path, value)
    assert says in str(refused.value)


def test_a_cron_expression_of_another_form_is_refused() -> None:
    scaled = load("full.yaml")[0]
    scaled["spec"]["triggers"][1]["metadata"]["start"] = "@daily"
    with pytest.raises(ImportRefused, match="five fields"):
        convert(scaled)


# ---- the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["import", "keda", *arguments])


@pytest.mark.parametrize("name", ["plain.yaml", "full.yaml", "formula.yaml"])
def test_the_command_prints_the_manifest_alone_and_names_the_rest_on_stderr(name: str) -> None:
    done = run(str(FILES / name), "--app", "a:app", "--shadow")
    assert done.exit_code == 0, done.output
    (pool,) = yaml.safe_load_all(done.stdout)
    spec = WorkerPool.model_validate(pool).spec
    assert (spec.app, spec.scaling.mode) == ("a:app", "Shadow")
    assert len(done.stderr.splitlines()) == len(made(name, Choice(app="a:app")).notes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("- a\n- b", "no Kubernetes object"),
        ("kind: Deployment\nmetadata: {name: x}", "holds no ScaledObject"),
        ("kind: ScaledJob\nmetadata: {name: x}", "not a ScaledObject"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "f.yaml").write_text(text)
    done = run(str(tmp_path / "f.yaml"))
    assert (done.exit_code, says in done.stderr) == (1, True), done.stderr
