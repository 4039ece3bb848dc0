"""What goes wrong in a cluster, done for real: processes killed on the node, pods deleted by force, evictions.

Owns the way into the node: the host's own processes where the cluster runs without containers around it, `docker exec`
where the node is a container. It kills only processes of the pod that it is given.
"""

import subprocess
import time

from millpond_cluster.build.builder import has_docker_engine

from tests.support.kube import Body, Kube, Refused

# cgroups spell a pod's uid with dashes or, under systemd, with underscores. `exec` makes the shell itself no match.
_KILL = """
for folder in /proc/[0-9]*; do
  if grep -qE "pod({uid}|{other})" $folder/cgroup 2>/dev/null &&
     tr '\\0' ' ' < $folder/cmdline 2>/dev/null | grep -q -e '{words}'; then
    kill -9 ${{folder#/proc/}} && echo ${{folder#/proc/}}
  fi
done
"""


def kill_process(pod: Body, words: str, node: str = "millpond") -> list[int]:
    """SIGKILL to the pod's processes whose command line holds `words`; their process ids on the node."""
    uid = pod["metadata"]["uid"]
    script = _KILL.format(uid=uid, other=uid.replace("-", "_"), words=words)
    place = ["docker", "exec", f"{node}-control-plane"] if has_docker_engine() else []
    done = subprocess.run([*place, "sh", "-c", script], capture_output=True, text=True, check=False)
    killed = [int(pid) for pid in done.stdout.split()]
    assert killed, f"no process {words!r} of pod {pod['metadata']['name']} was found: {done.stderr}"
    return killed


def delete_by_force(kube: Kube, pod: str) -> None:
    """As `kubectl delete pod --force --grace-period=0`: gone from the API at once, killed by the kubelet."""
    kube.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")


def evict(kube: Kube, pod: str, patience: float = 30.0) -> None:
    """The eviction API, as `kubectl drain` uses it; asked again while a disruption budget says no."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kube.namespace}}
    deadline = time.monotonic() + patience
    while True:
        try:
            kube.request("POST", kube.path("pods", pod, "eviction"), body)
        except Refused as error:
            if error.status != 429 or time.monotonic() > deadline:
                raise
        else:
            return
