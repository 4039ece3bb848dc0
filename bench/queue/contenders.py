"""Who takes part: on which ground, with which program and slots, and what is stored when. Data alone.

A contender's settings are the fastest that keep its promise that no task is lost with a worker (ack after the work).
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Ground(StrEnum):
    """The server that a contender works on."""

    NATS = "nats"
    REDIS = "redis"
    POSTGRES = "postgres"
    POSTGRES_ASYNC = "postgres, synchronous_commit off"


STORED = {
    Ground.NATS: "file, no fsync before the answer (sync_interval 2 min)",
    Ground.REDIS: "append-only file, fsync every second",
    Ground.POSTGRES: "write-ahead log, fsync before the answer",
    Ground.POSTGRES_ASYNC: "write-ahead log, fsync within 0.6 s",
}
"""What each ground has on disk when it answers."""


@dataclass(frozen=True)
class Contender:
    """One line of the table. `keeps`: the value that the handler returned is stored and can be read again.

    `done` are questions to its server whose answers, all of them, must reach their number.

    A question's number is (factor, offset): factor × tasks + offset, at least; with factor 0 exactly the offset.
    """

    name: str
    ground: Ground
    program: str
    slots: int
    results: str
    promise: str
    done: tuple[tuple[str, int, int], ...]
    requirements: str = ""
    """Name of the lock file of its environment; empty: the workspace's own."""
    prepares: bool = False
    tasks_share: float = 1.0
    """Of the run's tasks: a slow one gets fewer, so that its round is not ten times as long."""
    paced: bool = True
    keeps: bool = True
    variant: str = ""
    """What the program is told in BENCH_VARIANT."""


MILLPOND = Contender(
    "Millpond",
    Ground.NATS,
    "ours.py",
    200,
    "in the task's log, which is kept for 7 days",
    "claim, result and ack: each a stored message or the end of one; one outcome per task",
    (("MP_bench_bench", 0, 0), ("MILLPOND_EVENTS", 2, 0)),
)
RAW = Contender(
    "raw pull and ack",
    Ground.NATS,
    "raw.py",
    500,
    "none",
    "at least once; by hand with nats-py: pulls of 500, no claim, no result, acks not confirmed",
    (("MP_bench_bench", 0, 0),),
    tasks_share=2.0,
    paced=False,
    keeps=False,
)
RAW_PROTOCOL = Contender(
    "raw claim, result and ack",
    Ground.NATS,
    "raw_protocol.py",
    500,
    MILLPOND.results,
    "Millpond's, by hand: constant events, no arguments read, no handler's thread, no lease kept, no error handled",
    MILLPOND.done,
    paced=False,
)
"""What the protocol costs at least: the same stored messages in the same order."""
_NO_RESULT = "none: a row that it succeeded"
_OWN_RESULT = "a row that the handler inserts, in a transaction of its own (20 connections)"
_BATCHES = "at least once; what is done is written in batches"
_RESULT_KEY = "a key in Redis, 1 h"
PGQUEUER_RESULTS = Contender(
    "pgqueuer, results kept",
    Ground.POSTGRES,
    "pgqueuer_peer.py",
    100,
    _OWN_RESULT,
    _BATCHES,
    (("SELECT count(*) FROM pgqueuer", 0, 0), ("SELECT count(*) FROM results", 1, 0)),
    "pgqueuer",
    prepares=True,
    tasks_share=0.5,
    variant="results",
)
PGQUEUER = Contender(
    "pgqueuer",
    Ground.POSTGRES,
    "pgqueuer_peer.py",
    100,
    _NO_RESULT,
    _BATCHES,
    (("SELECT count(*) FROM pgqueuer", 0, 0),),
    "pgqueuer",
    prepares=True,
    tasks_share=0.5,
    keeps=False,
)
PEERS = (
    Contender(
        "taskiq-nats",
        Ground.NATS,
        "taskiq_nats_peer.py",
        100,
        "two messages in an object store",
        "at least once, acks not confirmed",
        (("tasks", 0, 0), ("OBJ_taskiq_results", 2, 0)),
        "taskiq",
        tasks_share=0.25,
    ),
    Contender(
        "faststream",
        Ground.NATS,
        "faststream_peer.py",
        100,
        "a message in a results stream",
        "at least once, acks not confirmed; results are not found by task",
        (("tasks", 0, 0), ("results", 1, 0)),
        "faststream",
        prepares=True,
        tasks_share=0.5,
    ),
    Contender(
        "arq",
        Ground.REDIS,
        "arq_peer.py",
        100,
        _RESULT_KEY,
        "at least once",
        (("ZCARD arq:queue", 0, 0), ("DBSIZE", 1, 0)),
        "arq",
        tasks_share=0.25,
    ),
    Contender(
        "dramatiq",
        Ground.REDIS,
        "dramatiq_peer.py",
        8,
        _RESULT_KEY,
        "at least once",
        (("HLEN dramatiq:default.msgs", 0, 0), ("DBSIZE", 1, 0)),
        "dramatiq",
        tasks_share=0.5,
    ),
    Contender(
        "celery (prefork 1)",
        Ground.REDIS,
        "celery_peer.py",
        2,
        _RESULT_KEY,
        "at least once (acks_late)",
        (("HLEN unacked", 0, 0), ("LLEN celery", 0, 0), ("DBSIZE", 1, 0)),
        "celery",
        tasks_share=0.25,
    ),
    Contender(
        "celery (solo)",
        Ground.REDIS,
        "celery_peer.py",
        1,
        _RESULT_KEY,
        "at least once (acks_late)",
        (("HLEN unacked", 0, 0), ("LLEN celery", 0, 0), ("DBSIZE", 1, 0)),
        "celery",
        tasks_share=0.25,
    ),
    PGQUEUER_RESULTS,
    replace(PGQUEUER_RESULTS, name="pgqueuer, results kept (async commit)", ground=Ground.POSTGRES_ASYNC),
    PGQUEUER,
    replace(PGQUEUER, name="pgqueuer (async commit)", ground=Ground.POSTGRES_ASYNC),
    Contender(
        "procrastinate",
        Ground.POSTGRES,
        "procrastinate_peer.py",
        100,
        "none: the job's row says that it succeeded",
        "at least once",
        (("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'", 1, 0),),
        "procrastinate",
        prepares=True,
        tasks_share=0.1,
        keeps=False,
    ),
)
CONTENDERS = (MILLPOND, RAW, RAW_PROTOCOL, *PEERS)
