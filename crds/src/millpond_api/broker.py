"""The configuration of every stream and consumer, as JetStream API requests: pure, shared by operator and tests.

The operator applies these; the worker and the client only use what is there. Shapes are those of the JetStream API
(`$JS.API.STREAM.CREATE.<name>`, durations in nanoseconds).
"""

from dataclasses import dataclass
from typing import Any

from millpond_api import fairness, messages, subjects

NANOSECONDS = 1_000_000_000
DUPLICATE_WINDOW = 120.0
"""Seconds in which a second publish of the same task id is dropped by the server; later ones meet the claim."""

LANE_IDLE = 300.0
"""Seconds without a pull after which a lane's consumer ends (the server keeps one that has a task in flight). It costs
the server 48 KB."""


@dataclass(frozen=True)
class QueueConfig:
    """What a pool's stream depends on. `lease` is the consumer's ack wait in seconds."""

    namespace: str
    pool: str
    classes: tuple[str, ...] = ("default",)
    max_depth: int = 100_000
    max_age: float = 0.0
    lease: float = 15.0
    storage: str = "file"
    replicas: int = 1
    metadata: tuple[tuple[str, str], ...] = ()
    lanes: int | None = None
    """Of each class, for fairness between keys; None: there never were any, 0: there were some once."""


def events_stream(storage: str = "file", replicas: int = 1, max_age: float = 7 * 86400.0) -> dict[str, Any]:
    """History, storage and feed in one; the last message of a subject is the state."""
    return _shared_stream(
        subjects.STREAM_EVENTS,
        ["mp.events.>"],
        (storage, replicas),
        max_msgs_per_subject=subjects.EVENTS_PER_TASK,
        max_age=_nanoseconds(max_age),
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
        republish={"src": "mp.events.>", "dest": "mp.feed.>"},
    )


def delayed_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """Schedules wait here; when due, the server writes them to `mp.due.…`, which the pools' streams source."""
    return _shared_stream(
        subjects.STREAM_DELAYED,
        ["mp.later.>", "mp.due.>"],
        (storage, replicas),
        allow_msg_schedules=True,
        allow_atomic=True,
        allow_msg_ttl=True,
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
    )


def dead_stream(storage: str = "file", replicas: int = 1, max_age: float = 30 * 86400.0) -> dict[str, Any]:
    """Dead letters: the original message with its error, until somebody redrives or purges it, or its time is over."""
    return _shared_stream(
        subjects.STREAM_DEAD,
        ["mp.dead.>"],
        (storage, replicas),
        max_age=_nanoseconds(max_age),
        allow_msg_ttl=True,
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
    )


def objects_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """What is too large for a message, in chunks that are stored as one atomic batch; each has a time to live."""
    return _shared_stream(
        subjects.STREAM_OBJECTS,
        ["mp.objects.>"],
        (storage, replicas),
        allow_msg_ttl=True,
        allow_atomic=True,
    )


def ledger_stream(storage: str = "file", replicas: int = 1, max_age: float = 7 * 86400.0) -> dict[str, Any]:
    """Scaling records of all pools, for explain and replay; a record is 2 to 4 KiB of JSON, so it is compressed."""
    return _shared_stream(
        subjects.STREAM_LEDGER,
        ["mp.ledger.>"],
        (storage, replicas),
        compression="s2",
        max_msgs_per_subject=subjects.LEDGER_PER_POOL,
        max_age=_nanoseconds(max_age),
    )


def history_stream(storage: str = "file", replicas: int = 1, max_age: float = 60 * 86400.0) -> dict[str, Any]:
    """What forecasts have learnt, one message a pool; that of a pool which is gone goes after two months."""
    return _shared_stream(
        subjects.STREAM_HISTORY,
        ["mp.history.>"],
        (storage, replicas),
        compression="s2",
        max_msgs_per_subject=1,
        max_age=_nanoseconds(max_age),
    )


def catalogue_stream(storage: str = "file", replicas: int = 1, max_age: float = 30 * 86400.0) -> dict[str, Any]:
    """Handlers of the pools, one message for each version of an app: also of a pool that is at zero just now."""
    return _shared_stream(
        subjects.STREAM_CATALOGUE,
        ["mp.catalogue.>"],
        (storage, replicas),
        compression="s2",
        max_msgs_per_subject=1,
        max_age=_nanoseconds(max_age),
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
    )


def settings_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """What the workers of each pool are told, one message a pool; that a pool is gone stays known for a month."""
    return _shared_stream(
        subjects.STREAM_SETTINGS,
        [subjects.settings_all()],
        (storage, replicas),
        max_msgs_per_subject=1,
        allow_msg_ttl=True,
    )


def limits_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """The state of rates, places and unique keys: one message each, changed by compare-and-set, gone by its own TTL."""
    return _shared_stream(
        subjects.STREAM_LIMITS,
        ["mp.limits.>"],
        (storage, replicas),
        max_msgs_per_subject=1,
        allow_msg_ttl=True,
    )


def parked_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """Tasks that wait for a place of their concurrency key, a line for each: whoever frees a place moves the first."""
    return _shared_stream(
        subjects.STREAM_PARKED,
        ["mp.parked.>"],
        (storage, replicas),
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
    )


def signals_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """Signals to tasks, in order, each pushed to the worker that listens. A task with too many is refused more."""
    return _shared_stream(
        subjects.STREAM_SIGNALS,
        ["mp.signals.>"],
        (storage, replicas),
        discard="new",
        discard_new_per_subject=True,
        max_msgs_per_subject=messages.SIGNALS_PER_TASK,
        max_age=_nanoseconds(messages.SIGNAL_AGE),
        duplicate_window=_nanoseconds(DUPLICATE_WINDOW),
        republish={"src": "mp.signals.>", "dest": "mp.signalled.>"},
    )


def checkpoints_stream(storage: str = "file", replicas: int = 1) -> dict[str, Any]:
    """The last checkpoint of each task that makes any, changed by compare-and-set."""
    return _shared_stream(
        subjects.STREAM_CHECKPOINTS,
        ["mp.checkpoints.>"],
        (storage, replicas),
        max_msgs_per_subject=1,
        max_age=_nanoseconds(messages.CHECKPOINT_AGE),
    )


def shared_streams(storage: str = "file", replicas: int = 1) -> tuple[dict[str, Any], ...]:
    """What all pools share, in the order in which it is made."""
    makers = (
        events_stream,
        delayed_stream,
        dead_stream,
        ledger_stream,
        history_stream,
        catalogue_stream,
        settings_stream,
        limits_stream,
        parked_stream,
        signals_stream,
        checkpoints_stream,
        objects_stream,
    )
    return tuple(make(storage, replicas) for make in makers)


def _shared_stream(name: str, takes: list[str], kept: tuple[str, int], **more: Any) -> dict[str, Any]:
    """A stream of all pools that takes these subjects; `kept`: storage and replicas; `more`: what sets it apart."""
    storage, replicas = kept
    return {
        "name": name,
        "subjects": takes,
        "retention": "limits",
        "discard": "old",
        "storage": storage,
        "num_replicas": replicas,
        "allow_direct": True,
        **more,
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * NANOSECONDS)


def pool_stream(queue: QueueConfig) -> dict[str, Any]:
    """The pool's work queue. `max_msgs` with discard=new makes the bound the server's: a full queue refuses."""
    ns, pool = queue.namespace, queue.pool
    return {
        "name": subjects.pool_stream(ns, pool),
        "subjects": [subjects.tasks_all(ns, pool)],
        "retention": "workqueue",
        "discard": "new",
        "storage": queue.storage,
        "num_replicas": queue.replicas,
        "max_msgs": queue.max_depth,
        "max_age": _nanoseconds(queue.max_age),
        "duplicate_window": _nanoseconds(min(DUPLICATE_WINDOW, queue.max_age or DUPLICATE_WINDOW)),
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {
            "src": subjects.tasks_all(ns, pool),
            "dest": subjects.wake_all(ns, pool),
            "headers_only": True,
        },
        "sources": [
            {
                "name": subjects.STREAM_DELAYED,
                "subject_transforms": [{"src": subjects.due_all(ns, pool), "dest": subjects.tasks_all(ns, pool)}],
            }
        ],
        "metadata": dict(queue.metadata),
    }


def class_consumer(queue: QueueConfig, task_class: str) -> dict[str, Any]:
    """One durable pull consumer per class. `max_deliver` stays unlimited: reaching it would strand the message."""
    shape = _consumer(queue, task_class, "")
    if queue.lanes is None:
        return shape
    return shape | {"metadata": {fairness.META_LANES: str(queue.lanes)}}


def lane_consumer(queue: QueueConfig, task_class: str, lane: str) -> dict[str, Any]:
    """The consumer of one lane: made by the first worker that finds a task there, ended by the server when idle."""
    return _consumer(queue, task_class, lane) | {"inactive_threshold": _nanoseconds(LANE_IDLE)}


def _consumer(queue: QueueConfig, task_class: str, lane: str) -> dict[str, Any]:
    return {
        "durable_name": subjects.consumer(task_class, lane),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": _nanoseconds(queue.lease),
        "max_deliver": -1,
        "max_ack_pending": 100_000,
        "max_waiting": 10_000,
        "filter_subject": subjects.tasks(queue.namespace, queue.pool, task_class, lane),
        "replay_policy": "instant",
    }
