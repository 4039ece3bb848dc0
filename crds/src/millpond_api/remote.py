"""Workers outside the cluster: what their pool tells them, and what they must be allowed to at NATS. Pure.

Owns the message that an operator stores for each pool (`subjects.settings`): the variables that the pool's pods have
from their Deployment, so that a worker elsewhere needs an address and nothing else. And the list of subjects that a
worker of one pool publishes and hears, which is the whole of its rights (docs/remote.md says what it can't keep apart).
"""

from typing import NamedTuple

from pydantic import AwareDatetime

from millpond_api import subjects
from millpond_api.wire import Wire

OWN = ("MILLPOND_APP", "MILLPOND_CONCURRENCY", "MILLPOND_GRACE")
"""Variables that a remote worker may have of its own: about its machine, not about the pool's tasks."""


class PoolSettings(Wire):
    """What a pool's workers are told. `variables` are those of its pods, without address, names and ports.

    `deleted`: the pool is gone, and whoever works for it finishes what it runs and takes nothing new. `paused`: the
    same for now, and why; empty while the pool works.
    """

    at: AwareDatetime
    variables: dict[str, str] = {}  # noqa: RUF012  # pydantic copies defaults
    deleted: bool = False
    paused: str = ""

    @property
    def open(self) -> bool:
        """Whether there is work to be taken."""
        return not self.deleted and not self.paused

    def says_the_same(self, other: "PoolSettings | None") -> bool:
        """Whether only the time differs."""
        return other is not None and self.model_copy(update={"at": other.at}) == other


class Rights(NamedTuple):
    """Subjects of a user of nats-server's `permissions`."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def make_rights(namespace: str, pool: str, *, limits: bool = False) -> Rights:
    """The least that a worker of this pool can do with.

    `limits`: the pool has concurrency limits, or its handlers submit unique tasks. That takes two requests whose body
    says what is deleted, so that they can't be bound to one pool.
    """
    queue = subjects.pool_stream(namespace, pool)
    asks = (
        f"CONSUMER.INFO.{queue}.*",
        f"CONSUMER.CREATE.{queue}.>",
        f"CONSUMER.MSG.NEXT.{queue}.*",
        f"STREAM.INFO.{queue}",
        f"STREAM.MSG.GET.{queue}",
        f"STREAM.INFO.{subjects.STREAM_LIMITS}",
        *(f"STREAM.PURGE.{stream}" for stream in _TIDIED),
        *(f"DIRECT.GET.{stream}" for stream in _READ),
        *(_UNBOUND if limits else ()),
        *(f"DIRECT.GET.{stream}.{subject}" for stream, subject in subjects.remote_reads(namespace, pool)),
    )
    own = subjects.remote_publishes(namespace, pool)
    publish = (*own, *(f"$JS.API.{ask}" for ask in asks), f"$JS.ACK.{queue}.>")
    return Rights(publish, subjects.remote_hears(namespace, pool))


_READ = (
    subjects.STREAM_EVENTS,
    subjects.STREAM_CATALOGUE,
    subjects.STREAM_PARKED,
    subjects.STREAM_OBJECTS,
    subjects.STREAM_SIGNALS,
)
"""Streams that are read by a range: there the request's body says of whom, so no subject can bound it to one pool."""
_TIDIED = (subjects.STREAM_SIGNALS, subjects.STREAM_CHECKPOINTS)
"""What an ended task leaves there goes by a purge, whose body says of which task: no subject can bound that either."""
_UNBOUND = (f"STREAM.PURGE.{subjects.STREAM_DELAYED}", f"STREAM.MSG.DELETE.{subjects.STREAM_PARKED}")


def format_rights(rights: Rights) -> str:
    """As a `permissions` block of nats-server's configuration."""
    lines = ["permissions: {"]
    for verb, listed in zip(("publish", "subscribe"), rights, strict=True):
        quoted = ",\n    ".join(f'"{subject}"' for subject in listed)
        lines.append(f"  {verb}: {{ allow: [\n    {quoted}\n  ] }}")
    # An answer to whoever asks this worker something goes to that one's inbox.
    lines += ['  allow_responses: { max: 10, ttl: "1m" }', "}"]
    return "\n".join(lines) + "\n"
