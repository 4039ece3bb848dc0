"""Checking out a worker's slot: where to wait, for how long, and that a block leaves nothing behind however it ends.

Owns the block of `Client.checkout`. The lease itself is `leased.LeasedWorker`'s. It survives its own cancellation: the
wait is withdrawn, a slot that was granted is given back.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, TypedDict, Unpack

from millpond_api import subjects
from millpond_api.envelope import MOST_KEY
from millpond_api.leases import LEASE_CLASS

from millpond.errors import CheckoutTimeout, PoolNotFound, PriorityNotFound, QueueFull
from millpond.leased import LEAVING, LeasedWorker
from millpond.spans import Span, read_limit

if TYPE_CHECKING:
    from millpond.client import Client

NOT_STORED = (QueueFull, PoolNotFound, PriorityNotFound)
"""The wait never began: there is nothing to withdraw."""


class Wish(TypedDict, total=False):
    """How a slot is waited for: the keywords of `checkout`, each of them optional."""

    timeout: Span | None
    """Seconds until CheckoutTimeout; None: as long as it takes."""
    task_class: str | None
    """The class to wait in. Unset: the pool's class `lease` where it declares one, else its default class."""
    owner: str | None
    """Who holds it, for people: it shows in the worker's status. Unset: host and process."""


@contextlib.asynccontextmanager
async def check_out(client: "Client", pool: str, lease: str, **wish: Unpack[Wish]) -> AsyncIterator[LeasedWorker]:
    """See `Client.checkout`. `lease` is the id of the task that waits for it."""
    worker = LeasedWorker(client, pool, lease, make_owner(wish.get("owner")))
    log = subjects.task_events(client.namespace, pool, lease)
    subscription = await client.transport.listen(subjects.feed(log), worker.on_feed)
    try:
        await _wait_for(worker, client, wish)
        try:
            yield worker
        finally:
            await _finish(worker.leave())
    finally:
        worker.close()
        await subscription.close()


async def _wait_for(worker: LeasedWorker, client: "Client", wish: Wish) -> None:
    """Until the slot is ours; a wait that ends otherwise is withdrawn."""
    patience = read_limit(wish.get("timeout", 30.0), "timeout")
    try:
        async with asyncio.timeout(patience):
            await worker.obtain(wish.get("task_class") or await choose_class(client, worker.pool))
    except NOT_STORED:
        raise
    except TimeoutError as error:
        await _finish(worker.withdraw("the client gave up waiting"))
        raise CheckoutTimeout(
            f"no worker of pool {worker.pool} had a free slot within {patience:g} s: wait longer, or give it workers"
        ) from error
    # Cancelled too: nobody waits for it any more.
    except BaseException:
        await _finish(worker.withdraw("the client gave up waiting"))
        raise


async def _finish(work: Awaitable[None]) -> None:
    """`work` to its end, for a limited time; also when its caller is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    await asyncio.wait((task,), timeout=LEAVING)
    task.cancel()


async def choose_class(client: "Client", pool: str) -> str:
    """The pool's class for leases, if it has one; asked once: who waits in `default` is served all the same."""
    if pool not in client.lease_classes:
        try:
            await client.check_class(pool, LEASE_CLASS)
            client.lease_classes[pool] = LEASE_CLASS
        except PriorityNotFound:
            client.lease_classes[pool] = "default"
    return client.lease_classes[pool]


def make_owner(given: str | None) -> str:
    """A name that travels in a header."""
    owner = given or f"{socket.gethostname()}:{os.getpid()}"
    return owner.encode("ascii", "replace").decode()[:MOST_KEY]
