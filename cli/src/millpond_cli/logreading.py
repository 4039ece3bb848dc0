"""Whose log to read, and which of its lines belong to a task.

Owns the way from a name (pool, task or worker) to pods, and the filter on the workers' JSON lines. Logs come from the
kubelet through the API server: a worker whose pod is gone has none left, and this says so.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
from millpond_api import LABEL_POOL

from millpond_cli.cluster import Cluster, Object, Request, split_name
from millpond_cli.errors import CliError, NotFound, Unreachable
from millpond_cli.rows import status_of
from millpond_cli.watching import Query, Set, Sync, follow

CONTAINER = "worker"
IDLE_LOG_SECONDS = 3600.0
"""A followed log may be silent for an hour before the connection counts as dead."""
REOPEN_SECONDS = 1.0


@dataclass(frozen=True)
class Source:
    """Pods to read: named ones, or all of a pool. `ids` narrows the lines to those that name one of them."""

    what: str
    pods: list[str] = field(default_factory=list)
    pool: str = ""
    ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Line:
    pod: str
    text: str


def find_source(cluster: Cluster, name: str) -> Source:
    """What `name` means: `pool/x`, `task/x`, `worker/x`, or the first of these three that exists."""
    kind, plain = split_name(name)
    makers = {"pool": _of_pool, "task": _of_task, "worker": _of_worker}
    if kind:
        if kind not in makers:
            raise CliError(f"{name!r}: write pool/NAME, task/NAME or worker/NAME")
        return makers[kind](cluster, plain)
    for make in makers.values():
        try:
            return make(cluster, plain)
        except NotFound:
            continue
    raise NotFound(f"there is no pool, task or worker named {name} in namespace {cluster.namespace}")


def _of_pool(cluster: Cluster, name: str) -> Source:
    cluster.read("workerpools", name)
    return Source(f"pool {name}", pool=name)


def _of_worker(cluster: Cluster, name: str) -> Source:
    worker = cluster.read("workers", name)
    return Source(f"worker {name}", pods=[_pod(worker)])


def _pod(worker: Object) -> str:
    return str((worker.get("spec") or {}).get("pod") or worker["metadata"]["name"])


def _of_task(cluster: Cluster, name: str) -> Source:
    status = status_of(cluster.read("tasks", name))
    names = workers_of(status)
    if not names:
        raise CliError(f"task {name} is {status.get('phase') or 'Pending'}: no worker has run it yet, so it has no log")
    found = [(worker, cluster.find("workers", worker)) for worker in names]
    pods = [_pod(worker) if worker else name for name, worker in found]
    return Source(f"task {name}", pods=pods, ids=frozenset(filter(None, (status.get("taskId"), name))))


def workers_of(status: Object) -> list[str]:
    """The workers that ran the task, in order, each once."""
    ran = [step.get("worker") for step in status.get("transitions") or []]
    return list(dict.fromkeys(w for w in (*ran, status.get("worker")) if w))


def belongs(line: str, ids: frozenset[str]) -> bool:
    """Whether a line names one of the ids: as a value of its JSON, else anywhere in the text."""
    if not ids:
        return True
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return any(known in line for known in ids)
    return isinstance(record, dict) and any(isinstance(v, str) and v in ids for v in record.values())


def log_of(cluster: Cluster, pod: str, wanted: frozenset[str], follow_on: bool) -> Iterator[Line]:
    """The lines of one pod's worker container."""
    query = {"container": CONTAINER, **({"follow": "true"} if follow_on else {})}
    path = f"{cluster.path('pods', pod)}/log"
    for raw in cluster.lines(Request("GET", path, f"the log of pod {pod}", query, read_seconds=IDLE_LOG_SECONDS)):
        text = raw.decode(errors="replace")
        if belongs(text, wanted):
            yield Line(pod, text)


def read_logs(cluster: Cluster, source: Source) -> Iterator[Line]:
    """What the logs hold now, pod after pod. Pods that are gone or not started are skipped unless none is left."""
    pods = source.pods or [p["metadata"]["name"] for p in _pods(cluster, source.pool)]
    if not pods:
        raise CliError(f"{source.what} has no workers now, so there is no log: submit a task, or see `millpond watch`")
    refused: list[CliError] = []
    for pod in pods:
        try:
            yield from log_of(cluster, pod, source.ids, follow_on=False)
        except Unreachable:
            raise
        except CliError as error:
            refused.append(error)
    if len(refused) == len(pods):
        raise CliError(f"no log of {source.what} is left ({refused[0]}): a pod's log goes with the pod")


def _pods(cluster: Cluster, pool: str) -> list[Object]:
    return cluster.list("pods", query={"labelSelector": f"{LABEL_POOL}={pool}"}).items


def follow_logs(cluster: Cluster, source: Source, stop: threading.Event) -> Iterator[Line]:
    """Lines as they are written, those of pods that start later too; ends when `stop` is set or the named pods end."""
    lines: queue.Queue[Line | CliError | str] = queue.Queue()
    reading: set[str] = set()

    def read(pod: str) -> None:
        try:
            for line in log_of(cluster, pod, source.ids, follow_on=True):
                lines.put(line)
            lines.put(pod)
        except CliError as error:
            lines.put(error)

    def start(pod: str) -> None:
        if pod not in reading:
            reading.add(pod)
            threading.Thread(target=read, args=(pod,), daemon=True, name=f"log-{pod}").start()

    def discover() -> None:
        for change in follow(cluster, Query("pods", label_selector=f"{LABEL_POOL}={source.pool}"), stop):
            items = change.items if isinstance(change, Sync) else [change.item] if isinstance(change, Set) else []
            for pod in filter(has_log, items):
                start(pod["metadata"]["name"])

    for pod in source.pods:
        start(pod)
    if source.pool:
        threading.Thread(target=discover, daemon=True, name="pods").start()
    left = len(source.pods)
    while not stop.is_set() and (source.pool or left):
        item = lines.get()
        if isinstance(item, Line):
            yield item
        elif source.pool:
            continue
        elif isinstance(item, CliError):
            raise item
        else:
            left -= 1


def has_log(pod: Object) -> bool:
    """Whether the worker container has started once, so that the kubelet has a log to give."""
    for container in status_of(pod).get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            state = container.get("state") or {}
            return "running" in state or "terminated" in state
    return False
