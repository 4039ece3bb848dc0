"""A pod whose supervisor gave up: the pool's numbers reach the worker, its end and last words reach its Worker."""

from pathlib import Path

from millpond_api.supervision.pod import EXIT_CODE, REASON

from tests.support.eventually import eventually_sync
from tests.support.kube import Body, condition
from tests.support.works import LONG, Works


def test_a_worker_beyond_its_pools_intensity_is_failed_with_the_crashes_in_words(
    works: Works, pool: str, tmp_path: Path
) -> None:
    works.make_pool(
        pool, scaling={"minWorkers": 1, "maxWorkers": 1}, supervision={"intensity": 1, "period": "600s"}, concurrency=2
    )
    words = tmp_path / "termination-log"
    words.touch()
    worker = works.start_worker_of_pod(pool, app="tests.support.isolated_app:app", termination_log=words)
    for number in range(2):
        works.make_task(f"{pool}-{number}", pool, "process.crash", ["segfault"])
    eventually_sync(lambda: worker.popen.poll() is not None, LONG, "the end of the worker")
    assert worker.popen.returncode == EXIT_CODE
    name = end_pod(works, pool, worker.popen.returncode, words.read_text())

    said = (
        f"exit code {EXIT_CODE}: 2 crashes of handler processes in 600s; the last: the handler's process was ended by"
    )

    def failed() -> Body:
        """The worker's own last word says the same without the code, which is the kubelet's to tell."""
        status: Body = works.kube.get("workers", name).get("status") or {}
        assert (status.get("state"), status.get("reason")) == ("Failed", REASON), status
        assert status["message"].startswith(said), status
        return status

    status = eventually_sync(failed, LONG, "a Worker that says why it ended", 0.1)
    assert status["exitCode"] == EXIT_CODE
    assert (status["transitions"][-1]["state"], status["transitions"][-1]["reason"]) == ("Failed", REASON)
    assert REASON in works.kube.kubectl("get", "workers", name, "-o", "wide")
    assert condition({"status": status}, "Ready")["status"] == "False"


def end_pod(works: Works, pool: str, code: int, words: str) -> str:
    """What a kubelet writes when the container has ended; the pod's name."""
    (pod,) = [b for b in works.kube.list("pods") if b["metadata"]["labels"].get("millpond.dev/pool") == pool]
    name, spec = pod["metadata"]["name"], pod["spec"]["containers"][0]
    at = {"startedAt": "2030-01-01T00:00:00Z", "finishedAt": "2030-01-01T00:01:00Z"}
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": words, "containerID": "x://1", **at}}
    known = {"name": "worker", "image": spec["image"], "imageID": "", "ready": False, "restartCount": 0}
    works.kube.patch("pods", name, {"status": {"containerStatuses": [{**known, "state": state}]}}, "status")
    return str(name)
