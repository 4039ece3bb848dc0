"""The default StorageClass's provisioner: a folder on the host for every PersistentVolumeClaim.

A process of its own (`python -m millpond_cluster.local.provisioner PORT CERTIFICATES FOLDER`). It owns the
PersistentVolumes of its class and the folders below FOLDER. It lists once a second instead of watching: a handful of
claims, and nothing to lose when the API server is killed. Names are derived from the claim's uid, so being killed
between folder and volume repeats the same step.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from millpond_cluster.errors import ClusterError
from millpond_cluster.local.client import ApiClient, Object
from millpond_cluster.local.objects import PROVISIONER, STORAGE_CLASS

_PERIOD_SECONDS = 0.5


def make_volume(claim: Object, folder: Path) -> Object:
    metadata = claim["metadata"]
    reference = {key: metadata[key] for key in ("namespace", "name", "uid")}
    name = volume_name(claim)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            "hostPath": {"path": str(folder / name), "type": "Directory"},
        },
    }


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def is_waiting(claim: Object) -> bool:
    """A claim of our class that has no volume yet."""
    return claim["spec"].get("storageClassName") == STORAGE_CLASS and not claim["spec"].get("volumeName")


def reconcile(client: ApiClient, folder: Path) -> None:
    """Makes the missing volumes and removes the released ones."""
    for claim in (client.read("/api/v1/persistentvolumeclaims") or {}).get("items", []):
        if is_waiting(claim):
            path = folder / volume_name(claim)
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o777)  # containers run as any user, and fsGroup is not applied to host paths
            client.apply(make_volume(claim, folder))
    for volume in (client.read("/api/v1/persistentvolumes") or {}).get("items", []):
        ours = volume["spec"].get("storageClassName") == STORAGE_CLASS
        if ours and volume.get("status", {}).get("phase") == "Released":
            shutil.rmtree(folder / volume["metadata"]["name"], ignore_errors=True)
            client.delete(f"/api/v1/persistentvolumes/{volume['metadata']['name']}")


def main() -> None:
    port, certificates, folder = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    client = ApiClient(port, certificates, "provisioner")
    while True:
        try:
            reconcile(client, folder)
        except ClusterError as error:
            print(error, file=sys.stderr, flush=True)
        time.sleep(_PERIOD_SECONDS)


if __name__ == "__main__":
    main()
