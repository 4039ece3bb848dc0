"""Both sides of a benchmark get the same: pods, queue, tasks and weather."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api import LABEL_POOL, subjects
from millpond_api.v1alpha1 import WorkerPoolSpec

from bench.contenders import HELD, pool_spec
from bench.keda import Place, make_deployment, make_scaled_object
from bench.scenarios import KEDA_DEFAULT, KEDA_FAST, KEDA_WIDE, MILLPOND, MILLPOND_WIDE, SCENARIOS, TO_ZERO
from bench.weather import FLAPPING, STORM, Action, Load

PLACE = Place("space", "t1", "192.0.2.1:8222")
TEMPLATE = {
    "metadata": {"labels": {LABEL_POOL: "pattern"}, "annotations": {"millpond.dev/x": "y"}},
    "spec": {
        "schedulingGates": [{"name": "held"}],
        "terminationGracePeriodSeconds": 35,
        "containers": [
            {
                "name": "worker",
                "image": "worker:1",
                "env": [
                    {"name": "MILLPOND_NAMESPACE", "value": "elsewhere"},
                    {"name": "MILLPOND_POOL", "value": "pattern"},
                    {"name": "MILLPOND_WORKER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
            }
        ],
    },
}


def test_kedas_pods_are_millponds_on_a_queue_of_their_own() -> None:
    made = make_deployment(PLACE, TEMPLATE, 5)
    pod = made["spec"]["template"]
    environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert environment == {"MILLPOND_NAMESPACE": "space", "MILLPOND_POOL": "t1", "MILLPOND_WORKER": None}
    assert pod["spec"]["terminationGracePeriodSeconds"] == 35
    assert pod["spec"]["schedulingGates"] == TEMPLATE["spec"]["schedulingGates"]
    assert TEMPLATE["spec"]["containers"][0]["env"][1]["value"] == "pattern", "the pattern itself stays as it is"


def test_millponds_operator_does_not_take_kedas_pods_for_its_own() -> None:
    made = make_deployment(PLACE, TEMPLATE, 5)
    labels = made["metadata"]["labels"] | made["spec"]["template"]["metadata"]["labels"]
    assert LABEL_POOL not in labels
    assert made["spec"]["selector"]["matchLabels"].items() <= made["spec"]["template"]["metadata"]["labels"].items()


def test_keda_reads_the_consumer_that_the_workers_pull_from() -> None:
    [trigger] = make_scaled_object(PLACE, 10, 20, {})["spec"]["triggers"]
    assert trigger["metadata"]["stream"] == subjects.pool_stream("space", "t1")
    assert trigger["metadata"]["consumer"] == subjects.consumer("default")


def test_the_default_set_up_of_keda_sets_nothing_that_keda_has_a_default_for() -> None:
    spec = make_scaled_object(PLACE, 10, 20, KEDA_DEFAULT.spec)["spec"]
    assert not {"pollingInterval", "cooldownPeriod", "advanced"} & spec.keys()
    assert make_scaled_object(PLACE, 10, 20, KEDA_FAST.spec)["spec"]["pollingInterval"] == 1
    assert make_scaled_object(PLACE, 10, 20, KEDA_WIDE.spec)["spec"]["cooldownPeriod"] == 0


@pytest.mark.parametrize("setup", [MILLPOND, MILLPOND_WIDE], ids=lambda setup: setup.name)
def test_millponds_side_is_a_valid_pool(setup: object) -> None:
    made = WorkerPoolSpec.model_validate(pool_spec(setup, template=HELD))  # type: ignore[arg-type]
    assert made.scaling.max_workers == 20
    assert made.concurrency == 1


def test_only_what_is_drained_needs_real_workers() -> None:
    assert [one for one in SCENARIOS if one.drained] == [TO_ZERO]


@given(st.integers(1, 500), st.integers(1, 20), st.integers(0, 5))
def test_the_same_seed_gives_both_sides_the_same_tasks_within_bounds(tasks: int, waves: int, seed: int) -> None:
    load = Load(tasks, 0.1, 20, skew=2, waves=waves, seed=seed)
    assert load.durations() == load.durations()
    assert all(0.1 <= seconds <= 20 for seconds in load.durations())
    assert [seconds for wave in load.split() for seconds in wave] == load.durations()
    assert len(load.split()) <= waves


def test_the_storm_does_what_the_issue_asks_for() -> None:
    done = Counter(step.action for step in STORM.steps)
    assert done[Action.ROLL] == 2
    assert done[Action.KILL] == done[Action.DRAIN] == 1
    assert done[Action.PIN] == done[Action.UNPIN] >= 1
    assert done[Action.BOUNDS] >= 20
    assert STORM.load.tasks == 10_000
    assert min(STORM.load.durations()) < 0.2
    assert max(STORM.load.durations()) > 19
    assert max(step.at for step in STORM.steps) < STORM.limit


def test_twenty_flaps_are_twenty_edits_while_long_tasks_run() -> None:
    assert [step.action for step in FLAPPING.steps] == [Action.BOUNDS] * 20
    assert FLAPPING.load.shortest == 5
    assert FLAPPING.load.longest == 60
