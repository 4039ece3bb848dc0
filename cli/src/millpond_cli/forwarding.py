"""NATS through the API server: a port of this machine that ends in the pod of the chart's own NATS.

Owns the listener on the loopback and the two pumps of each connection; it must not know what is said over it. NATS is
reached as `kubectl port-forward` would reach it, so nothing but the API server has to be open to the person, and the
right to do it is Kubernetes' own (`pods/portforward` in Millpond's namespace). A broken connection ends the pumps; the
client on the other side sees a closed socket.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from millpond_cli.cluster import Cluster, Object, Request, connect
from millpond_cli.errors import CliError
from millpond_cli.options import Target

NATS_LABELS = "app.kubernetes.io/name=millpond,app.kubernetes.io/component=nats"
NATS_PORT = 4222
CHUNK = 65536
CONNECT_SECONDS = 30.0
"""For the way through API server, kubelet and pod; on a starved machine 10 s were too few, seen."""


@contextmanager
def broker(target: Target, nats: str = "") -> Iterator[tuple[str, str]]:
    """(URL of NATS, namespace): the given NATS, or the cluster's own through the API server."""
    if nats and target.namespace:
        yield nats, target.namespace
        return
    cluster = connect(target)
    with nullcontext(nats) if nats else forwarded_nats(cluster) as url:
        yield url, cluster.namespace


@contextmanager
def forwarded_nats(cluster: Cluster) -> Iterator[str]:
    """The URL of the cluster's embedded NATS, for as long as the context lasts."""
    pod = find_nats(cluster)
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    # The first connection is made at once: what the API server refuses is told in its own words.
    opened = [cluster.open_port(namespace, name, NATS_PORT)]
    with listening(lambda: opened.pop() if opened else cluster.open_port(namespace, name, NATS_PORT)) as port:
        yield f"nats://127.0.0.1:{port}"


def find_nats(cluster: Cluster) -> Object:
    """The running pod of the embedded NATS; CliError that names --nats when there is none."""
    query = {"labelSelector": NATS_LABELS}
    items = cluster.json(Request("GET", "/api/v1/pods", "the pods of NATS", query)).get("items", [])
    running = [pod for pod in items if (pod.get("status") or {}).get("phase") == "Running"]
    if running:
        return dict(running[0])
    raise CliError("no NATS of the chart runs in this cluster: give --nats nats://HOST:PORT of the one that it uses")


@contextmanager
def listening(connect: Callable[[], Any]) -> Iterator[int]:
    """A loopback port; each connection to it is pumped to one that `connect` makes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, connect), daemon=True, name="forward").start()
        yield server.getsockname()[1]


def _accept(server: socket.socket, connect: Callable[[], Any]) -> None:
    # The socket is closed when the context ends: then accept raises, and this thread is done.
    with contextlib.suppress(OSError):
        while True:
            near, _ = server.accept()
            try:
                far = connect()
            except CliError:
                # The client sees the close and says that no NATS answers.
                near.close()
                continue
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True, name="forward").start()


def _pump(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for end in (sink, source):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            end.close()
