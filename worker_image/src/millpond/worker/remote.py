"""A worker outside the cluster, from joining a pool to its end: `millpond-worker join`.

Owns the order: wait for a pool that works, take over what its operator tells the pods, see that the name is free, run
the worker. When the settings change, the pool is gone or the worker recycles itself, it drains and the process begins
anew (`execve`: the same pid, for whatever supervises it, and nothing left of the old worker's memory), to wait again.
Drained by a person or told to stop, it ends with 0. It survives a broker and an operator that are away for any time.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Mapping

import structlog
from millpond_api.events import Beat
from millpond_api.remote import PoolSettings
from millpond_api.subjects import check_token

from millpond.settings import SettingsError, default_name, read_settings
from millpond.transport import AccessRefused
from millpond.worker.joining import URL, make_worker_environment
from millpond.worker.loading import load_app
from millpond.worker.process import leave, run_worker
from millpond.worker.runtime import RECYCLING, Worker
from millpond.worker.told import End, Leave, NameTaken, Told

STOPPED, WRONG = 0, 2
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Joined:
    """What a worker outside the cluster is to know while it runs: its own environment, and what it was told."""

    def __init__(self, own: Mapping[str, str]) -> None:
        self.own = own
        self.url, self.where = _read_address(own)
        self.end, self.why = End.NONE, ""

    async def find_settings(self) -> PoolSettings:
        """The pool's settings, once there are any and this worker's name is free; NameTaken when it is not."""
        told = await Told.connect(self.url, self.where)
        try:
            found = await told.await_open()
            await told.check_name()
            return found
        finally:
            await told.transport.close()

    async def watch(self, worker: Worker, settings: PoolSettings) -> None:
        """Beside the worker: have it leave when it must not go on as it is."""
        board = worker.board

        def is_younger(other: Beat) -> bool:
            """Whether the heartbeat under our name is another worker's that was here first."""
            theirs, ours = (other.started, other.incarnation), (board.started, board.incarnation)
            return other.incarnation != board.incarnation and theirs < ours

        async def go(why: str) -> None:
            self.end, self.why = told.end, told.why
            await worker.leave("Leaving", why)

        told = await Told.connect(self.url, self.where)
        try:
            await told.watch(settings, self.own, Leave(go, is_younger))
        finally:
            await told.transport.close()


def run_remote() -> int:
    """The exit code; does not return when the process begins anew."""
    own = dict(os.environ)
    joined = Joined(own)
    try:
        settings = _await_settings(joined)
        if settings is None:
            return STOPPED
        os.environ.update(make_worker_environment(settings, own) | {"MILLPOND_WORKER": joined.where[2]})
        here = read_settings()
        structlog.get_logger("millpond.worker").info(
            "joining", pool=here.pool, namespace=here.namespace, worker=here.worker, slots=here.concurrency
        )
        worker = run_worker(here, load_app(here.app), lambda one: joined.watch(one, settings))
    except (AccessRefused, NameTaken) as error:
        return _refuse(str(error))
    if joined.end is End.TAKEN:
        return _refuse(joined.why)
    if joined.end is End.AGAIN or worker.why == RECYCLING:
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, "-m", "millpond.worker", "join"], own)
    return leave(worker)


def _await_settings(joined: Joined) -> PoolSettings | None:
    """The pool's settings; None when the process was told to stop before there were any."""

    async def find() -> PoolSettings | None:
        search = asyncio.ensure_future(joined.find_settings())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, search.cancel)
        try:
            return await search
        except asyncio.CancelledError:
            return None

    return asyncio.run(find())


def _read_address(own: Mapping[str, str]) -> tuple[str, tuple[str, str, str]]:
    """URL and (namespace, pool, name); SettingsError that names what is missing."""
    missing = [name for name in (URL, "MILLPOND_NAMESPACE", "MILLPOND_POOL") if not own.get(name)]
    if missing:
        options = {URL: "--url", "MILLPOND_NAMESPACE": "--namespace", "MILLPOND_POOL": "--pool"}
        raise SettingsError(", ".join(f"{options[name]} (or {name})" for name in missing) + " is missing")
    name = own.get("MILLPOND_WORKER") or make_name(default_name(), own["MILLPOND_POOL"])
    if not NAME.fullmatch(name):
        raise SettingsError(f"--name {name!r} must be lower-case letters, digits and '-': it names a Worker object")
    try:
        where = tuple(
            check_token(text, what)
            for text, what in ((own["MILLPOND_NAMESPACE"], "namespace"), (own["MILLPOND_POOL"], "pool"), (name, "name"))
        )
    except ValueError as error:
        raise SettingsError(str(error)) from None
    return own[URL], (where[0], where[1], where[2])


def make_name(host: str, pool: str) -> str:
    """A worker's name for a host: with the pool's, since one machine may work for several."""
    return re.sub(r"[^a-z0-9]+", "-", f"{host}-{pool}".lower())[:63].strip("-")


def _refuse(text: str) -> int:
    print(f"millpond worker: {text}", file=sys.stderr)
    return WRONG
