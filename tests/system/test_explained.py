"""What cannot work yet is kept and explained: broken images, unknown handlers, a person's hand on the scale."""

import subprocess
import sys

from tests.support.kube import condition
from tests.support.release import APP_IMAGE
from tests.support.stage import Stage, phase

MISSING_IMAGE = "localhost/no-such-image:1"


def test_broken_image_is_degraded_with_the_kubelets_reason_and_recovers(stage: Stage) -> None:
    stage.make_pool(image=MISSING_IMAGE)
    (name,) = stage.submit("echo", ["at last"])

    def degraded() -> dict[str, str] | None:
        found = condition(stage.kube.get("workerpools", "work"), "Degraded")
        return found if found.get("status") == "True" else None

    found = stage.wait(degraded, "Degraded")
    assert found["reason"] in ("ErrImagePull", "ImagePullBackOff")
    assert MISSING_IMAGE in found["message"] or "pull" in found["message"], found
    assert "spec.image" in found["message"], "the sentence says what to check"
    assert stage.phases() == {"Queued": 1}
    described = stage.kube.kubectl("describe", "workerpool", "work")
    assert "Degraded" in described
    assert found["reason"] in described

    stage.kube.patch("workerpools", "work", {"spec": {"image": APP_IMAGE}})
    assert stage.wait_ended([name])[name]["result"] == "at last"
    stage.wait(lambda: degraded() is None, "Degraded no more")


def test_unknown_handler_is_kept_and_explained_until_an_app_with_it_rolls_out(stage: Stage) -> None:
    stage.make_pool(app="app:few", scaling={"minWorkers": 1, "maxWorkers": 1})
    (name,) = stage.submit("sleep", [0.1, 5])

    def explained() -> dict[str, str] | None:
        found = condition(stage.kube.get("workerpools", "work"), "Degraded")
        return found if found.get("reason") == "HandlerMissing" else None

    found = stage.wait(explained, "HandlerMissing")
    assert "sleep" in found["message"]
    task = stage.wait(lambda: s if "HandlerMissing" in str(s := stage.kube.get("tasks", name)) else None, "the Task")
    assert phase(task["status"]) not in ("Failed", "Succeeded"), task["status"]
    assert "sleep" in stage.kube.kubectl("describe", "task", name)

    stage.kube.patch("workerpools", "work", {"spec": {"app": "app:app"}})
    ended = stage.wait_ended([name])[name]
    assert phase(ended) == "Succeeded"
    assert ended["attempts"] == 1, "waiting for a handler costs no attempt"


def test_kubectl_scale_holds_three_workers_until_it_is_unset(stage: Stage) -> None:
    stage.make_pool()
    stage.wait(lambda: condition(stage.kube.get("workerpools", "work"), "Ready").get("reason") == "AtZero", "at zero")
    stage.kube.kubectl("scale", "workerpool/work", "--replicas=3")
    pool = stage.wait_ready(3)
    assert pool["mode"] == "Manual"
    stage.kube.kubectl("wait", "--for=jsonpath={.status.replicas}=3", "workerpool/work", "--timeout=60s")
    # Longer than idleAfter and stabilization together: without the hold they would be gone.
    names = stage.submit("sleep", *([1.0, n] for n in range(12)))
    stage.wait_ended(names)
    assert stage.replicas() == 3
    unset = '[{"op":"remove","path":"/spec/replicas"}]'
    stage.kube.kubectl("patch", "workerpool/work", "--type=json", "-p", unset)
    stage.wait(lambda: stage.replicas() == 0, "back at zero")
    assert stage.pool()["mode"] == "Auto"


def test_explain_and_replay_reach_the_ledger_through_the_api_server_alone(stage: Stage) -> None:
    """No address of NATS is given: the command forwards a port of the chart's own pod, as kubectl would."""
    stage.make_pool()
    stage.wait_ended(stage.submit("sleep", *([0.5, n] for n in range(6))))
    stage.wait(lambda: stage.replicas() == 0, "back at zero")

    def sentence() -> str:
        return str(condition(stage.kube.get("workerpools", "work"), "Scaling").get("message"))

    # The status is written after the Deployment: the sentence is compared once it is that of a pool at rest.
    stage.wait(lambda: sentence() == "nothing waits or runs", "the sentence of a pool at rest")

    def millpond(*words: str) -> str:
        target = ("--kubeconfig", str(stage.kube.kubeconfig), "-n", stage.namespace)
        line = [sys.executable, "-m", "millpond_cli.main", words[0], *target, *words[1:]]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    told = millpond("explain", "pool", "work", "--full").splitlines()
    assert told[1] == sentence()
    assert "How the number came about:" in told
    again = millpond("replay", "work")
    assert " 0 different" in again, again
    stage.say(f"replay through the API server: {again.strip()}")
