"""A real Kubernetes for development and tests.

cluster = Cluster.up("millpond", "node")
cluster.build("localhost/app:dev", file=Path("Dockerfile"), context=Path("."))
cluster.load("localhost/app:dev")
… KUBECONFIG=cluster.kubeconfig …
cluster.restart("kube-apiserver")
cluster.down()
"""

from millpond_cluster.api import Cluster
from millpond_cluster.build.builder import has_docker_engine
from millpond_cluster.errors import ClusterError, CommandFailed
from millpond_cluster.local.state import Profile

__all__ = ["Cluster", "ClusterError", "CommandFailed", "Profile", "has_docker_engine"]
