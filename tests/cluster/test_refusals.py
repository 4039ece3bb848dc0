"""Bad input is refused by the API server itself, with a sentence that names the field and the fix."""

from typing import Any

import pytest

from tests.support.kube import Body, Kube, Refused
from tests.support.works import pool_manifest, task_manifest


def refusal(kube: Kube, manifest: Body) -> str:
    """What kubectl says."""
    with pytest.raises(Refused) as caught:
        kube.apply(manifest)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param(
            {"scaling": {"minWorkers": 5, "maxWorkers": 2}},
            ["scaling.minWorkers must not be greater than scaling.maxWorkers", "lower minWorkers or raise maxWorkers"],
            id="min over max",
        ),
        pytest.param(
            {"scaling": {"minWorkers": 11}},
            ["scaling.minWorkers must not be greater than scaling.maxWorkers"],
            id="min over the default max",
        ),
        pytest.param(
            {"scaling": {"idleAfter": "soon"}},
            ["spec.scaling.idleAfter", "must be a duration: a number and a unit, such as 500ms, 30s, 5m or 1h30m"],
            id="no duration",
        ),
        *(
            pytest.param(
                {"scaling": {"schedules": [{"name": "office", "start": "0 8 * * *", "end": "0 18 * * *"} | schedule]}},
                ["spec.scaling.schedules[0]", words],
                id=f"schedule: {words}",
            )
            for schedule, words in (
                ({}, "set minWorkers, maxWorkers or both"),
                ({"minWorkers": 3, "maxWorkers": 2}, "minWorkers must not be greater than maxWorkers"),
                ({"minWorkers": 3, "end": "0 8 * * *"}, "end must be another moment than start"),
                ({"minWorkers": 3, "start": "0 8 * * * *"}, "must be five cron fields, such as `0 8 * * 1-5`"),
                ({"minWorkers": 3, "end": "@hourly @@"}, "must be five cron fields, such as `0 8 * * 1-5`"),
                ({"minWorkers": 3, "timeZone": "../etc"}, "must be an IANA time zone, such as Europe/Berlin"),
            )
        ),
        pytest.param({"timeouts": {"lease": "1s"}}, ["spec.timeouts.lease", "at least 2s"], id="lease too short"),
        pytest.param({"image": None, "template": None}, ["image is missing: name the worker image"], id="no image"),
        pytest.param({"app": "census"}, ["spec.app", "must be module:attribute, such as census:app"], id="no app"),
        pytest.param(
            {"rollout": {"maxSurge": 0, "maxUnavailable": "0%"}},
            ["maxSurge and maxUnavailable must not both be 0"],
            id="a rollout that could never move",
        ),
        pytest.param(
            {"rollout": {"maxSurge": "a lot"}}, ["spec.rollout.maxSurge", "per cent of them such as 25%"], id="surge"
        ),
        pytest.param({"concurrency": 0}, ["spec.concurrency", "greater than or equal to 1"], id="no slots"),
        pytest.param({"queue": {"classes": ["Urgent"]}}, ["spec.queue.classes", "lower-case letters"], id="class name"),
        pytest.param(
            {"queue": {"weights": {"hgih": 5}}}, ["weights names a class that is not in classes"], id="weights"
        ),
        pytest.param(
            {"queue": {"weights": {"default": 0}}}, ["spec.queue.weights.default", "greater than"], id="a weight of 0"
        ),
        pytest.param(
            {"queue": {"classes": ["a", "b"], "fairness": {"lanes": 500}}},
            ["fairness.lanes times the number of classes must be at most 900", "lower lanes"],
            id="lanes",
        ),
        *(
            pytest.param({"rateLimit": limit}, ["spec.rateLimit", words], id=f"rate: {words}")
            for limit, words in (
                ({"rate": "fast"}, "must be a rate: a number, a slash and a time, such as 100/s, 5/m or 1/10s"),
                ({"perKey": "0/s"}, "must be a rate"),
                ({}, "say a rate, such as 100/s, or perKey"),
                ({"perKey": "1/s", "burst": 5}, "burst belongs to rate: say it too"),
            )
        ),
        pytest.param({"concurrencyLimits": {}}, ["spec.concurrencyLimits.perKey", "Required"], id="places"),
        pytest.param(
            {"concurrencyLimits": {"perKey": 1, "policy": "Drop"}},
            ["spec.concurrencyLimits.policy", '"Queue", "CancelNewest", "CancelRunning"'],
            id="policy",
        ),
        pytest.param({"timeouts": {"hard": "5 minutes"}}, ["spec.timeouts.hard", "must be a duration"], id="hard"),
        pytest.param({"timeouts": {"soft": "1d"}}, ["spec.timeouts.soft", "must be a duration"], id="soft"),
        pytest.param({"isolation": {"memoryLimit": "1GB"}}, ["must be an amount of memory"], id="memory"),
        pytest.param({"results": {"ttl": "10ms"}}, ["spec.results.ttl", "must be at least 1s"], id="results"),
        pytest.param({"results": {"inlineMax": "lots"}}, ["spec.results.inlineMax", "amount of memory"], id="inline"),
        pytest.param(
            {"deadLetter": {"retention": "800h"}},
            ["spec.deadLetter.retention", "must be at most 720h (30 days)"],
            id="letters for too long",
        ),
    ],
)
def test_a_bad_pool_is_refused_with_a_sentence(kube: Kube, spec: dict[str, Any], words: list[str]) -> None:
    manifest = pool_manifest("bad", **spec)
    manifest["spec"] = {key: value for key, value in manifest["spec"].items() if value is not None}
    said = refusal(kube, manifest)
    assert all(word in said for word in words), said


def test_a_pool_with_a_dot_in_its_name_is_refused_because_it_names_queue_and_pods(kube: Kube) -> None:
    said = refusal(kube, pool_manifest("a.b"))
    assert "metadata.name must be at most 40 lower-case letters, digits and '-' (no dots)" in said


def test_a_pool_with_a_long_name_is_refused(kube: Kube) -> None:
    assert "at most 40" in refusal(kube, pool_manifest("a" * 41))


@pytest.mark.parametrize(
    ("before", "change", "words"),
    [
        pytest.param(
            {}, {"handler": "other"}, ["handler cannot be changed", "Create a new Task instead"], id="handler"
        ),
        pytest.param({}, {"pool": "other"}, ["pool cannot be changed: only cancel and suspend can"], id="pool"),
        pytest.param({}, {"class": "other"}, ["class cannot be changed"], id="class"),
        pytest.param({}, {"deadline": "2030-01-01T00:00:00Z"}, ["deadline cannot be changed"], id="deadline added"),
        pytest.param(
            {"ttlAfterFinished": "5m"}, {"ttlAfterFinished": None}, ["ttlAfterFinished cannot be"], id="ttl removed"
        ),
        pytest.param({}, {"retry": {"maxAttempts": 9}}, ["retry cannot be changed"], id="retry added"),
        pytest.param({"uniqueKey": "a"}, {"uniqueKey": "b"}, ["uniqueKey cannot be changed"], id="unique key"),
        pytest.param(
            {"uniqueKey": "a", "unique": {"period": "1h"}},
            {"unique": {"period": "2h"}},
            ["unique cannot be changed"],
            id="unique",
        ),
        pytest.param({}, {"concurrencyKey": "b"}, ["concurrencyKey cannot be changed"], id="concurrency key added"),
        pytest.param({"timeout": "1m"}, {"timeout": "2m"}, ["timeout cannot be changed"], id="timeout"),
        pytest.param({}, {"args": [2]}, ["spec.args cannot be changed", "Create a new Task instead"], id="args"),
        pytest.param({}, {"kwargs": {"a": 1}}, ["spec.kwargs cannot be changed"], id="kwargs"),
        pytest.param({"cancel": True}, {"cancel": False}, ["cancel cannot be taken back"], id="cancel taken back"),
        pytest.param({"cancel": True}, {"cancel": None}, ["cancel cannot be taken back"], id="cancel removed"),
    ],
)
def test_a_changed_task_is_refused_with_a_sentence(
    kube: Kube, before: dict[str, Any], change: dict[str, Any], words: list[str]
) -> None:
    kube.create("tasks", task_manifest("fixed", "nowhere", args=[1], **before))
    with pytest.raises(Refused) as caught:
        kube.patch("tasks", "fixed", {"spec": change})
    assert all(word in str(caught.value) for word in words), caught.value


def test_suspend_and_cancel_may_be_set_after_creation(kube: Kube) -> None:
    kube.create("tasks", task_manifest("free", "nowhere"))
    kube.patch("tasks", "free", {"spec": {"suspend": True}})
    kube.patch("tasks", "free", {"spec": {"suspend": False, "cancel": True}})
    assert kube.get("tasks", "free")["spec"]["cancel"] is True


def test_two_megabytes_of_arguments_are_refused_with_their_bound(kube: Kube) -> None:
    with pytest.raises(Refused) as caught:
        kube.create("tasks", task_manifest("large", "nowhere", args=["x" * 2_000_000]))
    said = str(caught.value)
    assert "spec.args[0]" in said, said[:300]
    assert "262144" in said, said[:300]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"handler": "no spaces"}, ["spec.handler", "may hold only letters"], id="handler"),
        pytest.param({"unique": {"period": "1h"}}, ["say uniqueKey too"], id="unique without a key"),
        pytest.param(
            {"uniqueKey": "a", "unique": {"onConflict": "Debounce"}},
            ["Debounce needs notBefore: when the task is to run"],
            id="debounce at once",
        ),
        pytest.param(
            {"uniqueKey": "a", "unique": {"period": "1ms"}}, ["spec.unique.period", "at least 1s"], id="period"
        ),
        pytest.param(
            {"uniqueKey": "a", "unique": {"states": ["Done"]}}, ["spec.unique.states[0]", '"Succeeded"'], id="states"
        ),
        *(
            pytest.param({key: "größe"}, [f"spec.{key}", "must be a printable ASCII text"], id=key)
            for key in ("uniqueKey", "concurrencyKey", "rateKey")
        ),
        pytest.param({"softTimeout": "soon"}, ["spec.softTimeout", "must be a duration"], id="soft timeout"),
    ],
)
def test_a_task_that_cannot_be_is_refused_with_a_sentence(kube: Kube, spec: dict[str, Any], words: list[str]) -> None:
    said = refusal(kube, task_manifest("odd", "nowhere", **spec))
    assert all(word in said for word in words), said
