"""Every NATS subject, stream, consumer and header name of Millpond, in one place.

Names are built here and parsed here; no other module spells a subject. A token (namespace, pool, class, worker, task
id) may hold letters, digits, `-` and `_` only: a dot, a space or a wildcard in a subject would address somebody else's
messages, so `check_token` refuses it with a sentence.
"""

import base64
import hashlib
import re
from typing import NamedTuple

TOKEN = r"[A-Za-z0-9_-]{1,128}"
_TOKEN = re.compile(TOKEN)
_HANDLER = re.compile(r"[A-Za-z0-9._:/-]{1,128}")

STREAM_EVENTS = "MILLPOND_EVENTS"
STREAM_DELAYED = "MILLPOND_DELAYED"
STREAM_DEAD = "MILLPOND_DEAD"
STREAM_OBJECTS = "MILLPOND_OBJECTS"
STREAM_LEDGER = "MILLPOND_LEDGER"
STREAM_HISTORY = "MILLPOND_HISTORY"
STREAM_CATALOGUE = "MILLPOND_CATALOGUE"
STREAM_LIMITS = "MILLPOND_LIMITS"
STREAM_PARKED = "MILLPOND_PARKED"
STREAM_SETTINGS = "MILLPOND_SETTINGS"
STREAM_SIGNALS = "MILLPOND_SIGNALS"
STREAM_CHECKPOINTS = "MILLPOND_CHECKPOINTS"

HEADER_ENVELOPE = "Mp-Envelope"
"""The envelope as one compact JSON object (see `envelope`); the message body is the payload."""
HEADER_ERROR = "Mp-Error"
"""In a dead letter: why it is one, a `TaskError` as one JSON object."""
HEADER_CUT = "Mp-Cut"
"""In a dead letter: what of the message did not fit into it, in words."""
HEADER_LEASE = "Mp-Lease"
"""In a call of a leased worker: whose call it is, a `LeaseAsk` as one JSON object."""
HEADER_MSG_ID = "Nats-Msg-Id"
HEADER_EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
HEADER_BATCH = "Nats-Batch-Id"
HEADER_BATCH_SEQUENCE = "Nats-Batch-Sequence"
HEADER_BATCH_COMMIT = "Nats-Batch-Commit"
HEADER_TTL = "Nats-TTL"
HEADER_SEQUENCE = "Nats-Sequence"
"""In what the server republishes: the sequence under which it was stored."""
HEADER_SCHEDULE = "Nats-Schedule"
HEADER_SCHEDULE_TARGET = "Nats-Schedule-Target"
HEADER_SCHEDULE_TTL = "Nats-Schedule-TTL"

EVENTS_PER_TASK = 32
"""The last this many transitions of a task or worker are kept (`max_msgs_per_subject` of MILLPOND_EVENTS)."""

LEDGER_PER_POOL = 5000
"""The last this many scaling records of a pool are kept: a day at one each 30 s (2,880) and its changes."""


def check_token(text: str, what: str) -> str:
    """`text` itself when it may stand in a subject; ValueError that names `what` otherwise."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{what} {text!r} may hold only letters, digits, '-' and '_' (1 to 128 of them)")
    return text


def _tail(task_class: str, lane: str) -> str:
    """The end of a queue's subject. Tasks without a fairness key have no lane."""
    tail = check_token(task_class, "class")
    return f"{tail}.{check_token(lane, 'lane')}" if lane else tail


def check_handler(name: str) -> str:
    """`name` itself when it may name a handler (it travels in a header, so ASCII without spaces)."""
    if not _HANDLER.fullmatch(name):
        raise ValueError(f"handler name {name!r} may hold only letters, digits and . _ : / - (1 to 128 of them)")
    return name


def pool_stream(namespace: str, pool: str) -> str:
    """The pool's work queue. `_` joins the parts: Kubernetes names never hold one, so no two pools share a stream."""
    return f"MP_{check_token(namespace, 'namespace')}_{check_token(pool, 'pool')}"


def consumer(task_class: str, lane: str = "") -> str:
    """The durable pull consumer of one priority class of a pool's stream, or of one lane of it."""
    check_token(task_class, "class")
    return f"lane-{check_token(lane, 'lane')}-{task_class}" if lane else f"class-{task_class}"


def parse_consumer(name: str) -> tuple[str, str] | None:
    """(class, lane or "") of a pool's consumer; None for any other consumer."""
    if name.startswith("class-"):
        return name.removeprefix("class-"), ""
    kind, _, rest = name.partition("-")
    lane, _, task_class = rest.partition("-")
    return (task_class, lane) if kind == "lane" and task_class else None


def tasks(namespace: str, pool: str, task_class: str, lane: str = "") -> str:
    return f"mp.tasks.{namespace}.{pool}.{_tail(task_class, lane)}"


def parse_tasks(subject: str) -> tuple[str, str]:
    """(class, lane or "") of an `mp.tasks.…` or `mp.wake.…` subject."""
    parts = subject.split(".")
    if len(parts) not in (5, 6) or parts[1] not in ("tasks", "wake"):
        raise ValueError(f"{subject!r} is not a queue's subject")
    return parts[4], parts[5] if len(parts) == 6 else ""


def tasks_all(namespace: str, pool: str) -> str:
    return f"mp.tasks.{namespace}.{pool}.>"


def wake_all(namespace: str, pool: str) -> str:
    """Headers of every stored task are republished here: what wakes a pool at zero."""
    return f"mp.wake.{namespace}.{pool}.>"


def wake_lanes(namespace: str, pool: str) -> str:
    """The same for tasks that were stored in a lane: one idle worker of the pool hears each."""
    return f"mp.wake.{namespace}.{pool}.*.*"


def lanes_seen(namespace: str, pool: str) -> str:
    """Where the server answers a worker's look at the pool's lanes: all of its workers hear it."""
    return f"mp.lanes.{namespace}.{pool}"


def message_id(namespace: str, pool: str, name: str) -> str:
    """A message id for a stream that all pools share: a task id that two of them use must not make two tasks one."""
    return f"{namespace}.{pool}.{name}"


def later(namespace: str, pool: str, task_id: str) -> str:
    """The one pending schedule of a task (a second schedule on the same subject replaces the first)."""
    return f"mp.later.{namespace}.{pool}.{check_token(task_id, 'task id')}"


def due(namespace: str, pool: str, task_class: str, lane: str = "") -> str:
    return f"mp.due.{namespace}.{pool}.{_tail(task_class, lane)}"


def due_all(namespace: str, pool: str) -> str:
    return f"mp.due.{namespace}.{pool}.>"


def task_events(namespace: str, pool: str, task_id: str) -> str:
    """A task's log: compare-and-set on this subject is the only lock of the protocol."""
    return f"mp.events.task.{namespace}.{pool}.{check_token(task_id, 'task id')}"


def worker_events(namespace: str, pool: str, worker: str) -> str:
    return f"mp.events.worker.{namespace}.{pool}.{check_token(worker, 'worker')}"


def feed(event_subject: str) -> str:
    """Where MILLPOND_EVENTS republishes an event once it is stored.

    Subscribe here, not on the event subject: a core subscriber of `mp.events.>` would also hear publishes that the
    server then refused (a fenced worker's), which never became true.
    """
    return "mp.feed." + event_subject.removeprefix("mp.events.")


def dead(namespace: str, pool: str, task_id: str) -> str:
    return f"mp.dead.{namespace}.{pool}.{check_token(task_id, 'task id')}"


def dead_all(namespace: str, pool: str = "*") -> str:
    """The dead letters of a pool, or of every pool of the namespace (not the notes beside them)."""
    return f"mp.dead.{namespace}.{pool}.*"


def dead_note(namespace: str, pool: str, task_id: str) -> str:
    """What is known of the workers that a quarantined task took with it (`events.LossNote`), beside its dead letter."""
    return f"mp.dead.{namespace}.{pool}.{check_token(task_id, 'task id')}.losses"


def parse_dead(subject: str) -> "Address":
    """The task (or `malformed-…` message) of a dead letter's subject."""
    parts = subject.split(".")
    if len(parts) != 5 or parts[1] != "dead":
        raise ValueError(f"{subject!r} is not the subject of a dead letter")
    return Address(parts[2], parts[3], parts[4])


def stored_object(namespace: str, pool: str, name: str) -> str:
    """An object of the store: all messages of this subject, in order. `name` is `<task id>.<token>`."""
    task, _, token = name.partition(".")
    return f"mp.objects.{namespace}.{pool}.{check_token(task, 'task id')}.{check_token(token, 'object')}"


def stored_objects(namespace: str, pool: str) -> str:
    """Every object of a pool."""
    return f"mp.objects.{namespace}.{pool}.>"


def ledger(namespace: str, pool: str) -> str:
    """The pool's scaling records: each message is one decision with all it was made from."""
    return f"mp.ledger.{namespace}.{pool}"


def catalogue(namespace: str, pool: str, digest: str = "*") -> str:
    """The handlers of one version of a pool's app; without `digest` those of every version."""
    return f"mp.catalogue.{namespace}.{pool}.{digest}"


def settings(namespace: str, pool: str) -> str:
    """What the pool's workers are told (`remote.PoolSettings`): the last message is all of it."""
    return f"mp.settings.{check_token(namespace, 'namespace')}.{check_token(pool, 'pool')}"


def settings_all() -> str:
    """Those of every pool."""
    return "mp.settings.>"


def parse_settings(subject: str) -> tuple[str, str]:
    """(namespace, pool) of an `mp.settings.…` subject."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[1] != "settings":
        raise ValueError(f"{subject!r} is not the subject of a pool's settings")
    return parts[2], parts[3]


def remote_inbox(namespace: str, pool: str) -> str:
    """What the answers to the pool's remote workers begin with: users who may hear only these hear nobody else's."""
    return f"_INBOX.remote.{check_token(namespace, 'namespace')}.{check_token(pool, 'pool')}"


def history(namespace: str, pool: str) -> str:
    """What the pool's forecast has learnt: the last message is all of it."""
    return f"mp.history.{namespace}.{pool}"


def limit(namespace: str, pool: str, kind: str, key: str) -> str:
    """The one message that holds the state of a limit: its last sequence is the lock (compare-and-set).

    `kind` is rate, places or unique. A key is any text, so its digest stands in the subject.
    """
    return f"mp.limits.{kind}.{namespace}.{pool}.{digest(key)}"


def parked(namespace: str, pool: str, key: str) -> str:
    """Where the tasks of a concurrency key wait for a place, first come first served."""
    return f"mp.parked.{namespace}.{pool}.{digest(key)}"


def signals(namespace: str, pool: str, task_id: str) -> str:
    """A task's signals, in order."""
    return f"mp.signals.{namespace}.{pool}.{check_token(task_id, 'task id')}"


def signalled(signal_subject: str) -> str:
    """Where MILLPOND_SIGNALS republishes a signal once it is stored (see `feed` for why one listens there)."""
    return "mp.signalled." + signal_subject.removeprefix("mp.signals.")


def checkpoint(namespace: str, pool: str, task_id: str) -> str:
    """The one message that is a task's last checkpoint: its last sequence is the lock (compare-and-set)."""
    return f"mp.checkpoints.{namespace}.{pool}.{check_token(task_id, 'task id')}"


def conversations(namespace: str, pool: str) -> dict[str, str]:
    """By stream: what all tasks of a pool have left of signals and checkpoints."""
    return {
        STREAM_SIGNALS: f"mp.signals.{namespace}.{pool}.*",
        STREAM_CHECKPOINTS: f"mp.checkpoints.{namespace}.{pool}.*",
    }


def digest(key: str) -> str:
    """A token of 26 characters for any text (130 bits of SHA-256: no two keys of a pool will ever share one)."""
    return base64.b32encode(hashlib.sha256(key.encode(errors="surrogatepass")).digest())[:26].decode().lower()


def beat(namespace: str, pool: str, worker: str) -> str:
    return f"mp.beat.{namespace}.{pool}.{check_token(worker, 'worker')}"


def beats(namespace: str, pool: str) -> str:
    """The heartbeats of all workers of a pool."""
    return f"mp.beat.{namespace}.{pool}.*"


def rpc(namespace: str, pool: str, worker: str, verb: str) -> str:
    return f"mp.rpc.{namespace}.{pool}.{check_token(worker, 'worker')}.{verb}"


SERVICE = "millpond-worker"
"""The name of every worker as a NATS service (ADR-32)."""


def service_asks(service_id: str) -> tuple[str, str, str]:
    """What a service of this id (`*`: any) hears: questions to all services, to all of its name, to it alone."""
    alone = service_id if service_id == "*" else check_token(service_id, "service id")
    return "$SRV.*", f"$SRV.*.{SERVICE}", f"$SRV.*.{SERVICE}.{alone}"


def service_ask(verb: str) -> str:
    """A question (PING, INFO, STATS) to all workers."""
    return f"$SRV.{verb}.{SERVICE}"


def remote_publishes(namespace: str, pool: str) -> tuple[str, ...]:
    """What a worker of this pool publishes, but for requests to JetStream, as patterns."""
    where = f"{check_token(namespace, 'namespace')}.{check_token(pool, 'pool')}"
    return (
        tasks_all(namespace, pool),
        f"mp.later.{where}.*",
        due_all(namespace, pool),
        f"mp.events.task.{where}.*",
        f"mp.events.worker.{where}.*",
        f"mp.dead.{where}.>",
        stored_objects(namespace, pool),
        catalogue(namespace, pool),
        f"mp.limits.*.{where}.*",
        f"mp.parked.{where}.*",
        *conversations(namespace, pool).values(),
        beats(namespace, pool),
        f"mp.rpc.{where}.*.*",
        wake_lanes(namespace, pool),
    )


def remote_hears(namespace: str, pool: str) -> tuple[str, ...]:
    """What a remote worker of this pool subscribes to, as patterns."""
    where = f"{namespace}.{pool}"
    return (
        f"{remote_inbox(namespace, pool)}.>",
        f"mp.rpc.{where}.*.*",
        catalogue(namespace, pool),
        settings(namespace, pool),
        lanes_seen(namespace, pool),
        wake_lanes(namespace, pool),
        beats(namespace, pool),
        f"mp.feed.task.{where}.*",
        f"mp.signalled.{where}.*",
        *service_asks("*"),
    )


def remote_reads(namespace: str, pool: str) -> tuple[tuple[str, str], ...]:
    """(stream, pattern) of what a worker of this pool reads one last message of."""
    where = f"{namespace}.{pool}"
    return (
        (STREAM_EVENTS, f"mp.events.*.{where}.*"),
        (STREAM_CATALOGUE, catalogue(namespace, pool)),
        (STREAM_LIMITS, f"mp.limits.*.{where}.*"),
        (STREAM_SETTINGS, settings(namespace, pool)),
        (STREAM_CHECKPOINTS, f"mp.checkpoints.{where}.*"),
        (STREAM_DEAD, f"mp.dead.{where}.>"),
    )


class Address(NamedTuple):
    """What stands in a task-event, worker-event, beat or wake subject: (namespace, pool, name)."""

    namespace: str
    pool: str
    name: str


def parse_event(subject: str) -> tuple[str, Address]:
    """("task" | "worker", address) of an `mp.events.…` or `mp.feed.…` subject."""
    parts = subject.split(".")
    if len(parts) != 6 or parts[1] not in ("events", "feed"):
        raise ValueError(f"{subject!r} is not an event subject")
    return parts[2], Address(parts[3], parts[4], parts[5])


def parse_beat(subject: str) -> Address:
    """The worker that an `mp.beat.…` subject speaks of."""
    parts = subject.split(".")
    if len(parts) != 5:
        raise ValueError(f"{subject!r} is not a heartbeat subject")
    return Address(parts[2], parts[3], parts[4])


def parse_pool_stream(stream: str) -> tuple[str, str] | None:
    """(namespace, pool) of a pool's stream; None for any other stream."""
    parts = stream.split("_")
    return (parts[1], parts[2]) if len(parts) == 3 and parts[0] == "MP" else None
