"""The images and the release that the system tests run: built, loaded, installed and removed as a person would.

Owns the release `millpond-test` and the test app's image. It must not touch any other release but the demo's, which has
to go first: two cluster-wide operators would both write the same objects. Survives a run that was killed: installing is
an upgrade when the release is there already.
"""

from pathlib import Path

from millpond_cluster.api import Cluster

from scripts import helm, images
from tests.support.kube import Kube, Refused

ROOT = Path(__file__).parents[2]
RELEASE = NAMESPACE = "millpond-test"
OPERATOR = f"{RELEASE}-operator"
NATS_SERVICE, NATS_POD = f"{RELEASE}-nats", f"{RELEASE}-nats-0"
MARK = "millpond.dev/system-test"
"""Label of the namespaces that tests make."""
DEMO = ("millpond", "millpond-system")
APP_IMAGE, CENSUS_IMAGE = "localhost/millpond-test-app:dev", "localhost/stdlib-census:dev"
WORKER_IMAGE = images.IMAGES["millpond-worker"].tag

VALUES: helm.Values = {
    "image": {"repository": "localhost/millpond-operator", "tag": "dev", "pullPolicy": "IfNotPresent"},
    "nats": {
        "image": {"repository": "localhost/millpond-nats", "tag": "dev", "pullPolicy": "IfNotPresent"},
        # A volume that outlives the pod: tests kill the server and uninstall the release.
        "storage": {"type": "pvc", "size": "1Gi"},
    },
    "uninstall": {"timeoutSeconds": 120},
}
ROLLOUT = helm.Rollout(wait=True, timeout=240)


def make_images(name: str) -> None:
    """Build what has changed and load what the node lacks."""
    cluster = Cluster(name)
    images.Plan(cluster, load=True).run(["millpond-operator", "millpond-nats", "stdlib-census"])
    folder = ROOT / "tests" / "system" / "app"
    args = {"WORKER_IMAGE": WORKER_IMAGE, "BASE_IMAGE": WORKER_IMAGE}
    cluster.build(APP_IMAGE, file=folder / "Dockerfile", context=folder, args=args)
    cluster.load(APP_IMAGE)


def install(kubeconfig: Path, values: helm.Values | None = None) -> None:
    """The release is there with these values on top of the tests' own, and ready."""
    target = helm.Target(RELEASE, NAMESPACE, kubeconfig)
    helm.apply_release(target, helm.merge(VALUES, values or {}), ROLLOUT)


def uninstall(kubeconfig: Path) -> bool:
    """As `helm uninstall --wait`; False when it was not there."""
    return helm.remove_release(helm.Target(RELEASE, NAMESPACE, kubeconfig), ROLLOUT)


def remove_demo(kubeconfig: Path) -> None:
    """The demo's operator must not share the cluster with the tests'."""
    release, namespace = DEMO
    if helm.remove_release(helm.Target(release, namespace, kubeconfig), ROLLOUT):
        print(f"\nthe demo's release {release} was uninstalled (its data stays); `make demo` brings it back")


def make_namespace(kube: Kube, name: str) -> Kube:
    """A namespace of a test, marked as such."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {MARK: "true"}}}
    kube.request("POST", "/api/v1/namespaces", manifest)
    return kube.within(name)


def remove_namespaces(kube: Kube) -> None:
    """All that tests made, also those of a run that was killed: their pools would take the cores from this one."""
    kube.kubectl("delete", "namespace", "-l", MARK, "--ignore-not-found", "--timeout=180s")


def remove_everything(kube: Kube) -> None:
    """The tests' namespaces, the release and its namespace, with the queue's volume."""
    remove_namespaces(kube)
    uninstall(kube.kubeconfig)
    kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")


def read_leader(kube: Kube) -> str:
    """The holder of the operators' Lease: a pod's name and a mark of its process; or nothing."""
    try:
        lease = kube.within(NAMESPACE).get("leases", OPERATOR)
    except Refused as error:
        if error.status == 404:
            return ""
        raise
    return str(lease["spec"].get("holderIdentity") or "")


def pod_of(leader: str) -> str:
    """The pod of a holder."""
    return leader.rpartition("_")[0]
