"""The operator's informer on a real API server: what it knows is what there is, whatever the server does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from millpond_cluster.api import Cluster
from millpond_operator.cluster.api import Api
from millpond_operator.cluster.cache import Cache
from millpond_operator.cluster.informer import Informer

from tests.support.eventually import eventually
from tests.support.kube import Kube, Refused
from tests.support.works import task_manifest

PATIENCE = 180.0
"""Seconds: a restarted API server takes 15 on a busy machine to be back."""


class Watched:
    """An informer of a namespace's tasks, and the names it knows."""

    def __init__(self, api: Api, kube: Kube) -> None:
        self.cache = Cache("tasks", kube.namespace)
        self.informer = Informer(api, self.cache)

    async def knows(self, *names: str) -> None:
        await eventually(lambda: {key.name for key in self.cache.objects} == set(names), PATIENCE, f"{names} known")


@asynccontextmanager
async def watching(kube: Kube) -> AsyncIterator[Watched]:
    async with await Api.connect(str(kube.kubeconfig)) as api:
        watched = Watched(api, kube)
        await watched.informer.start()
        running = asyncio.create_task(watched.informer.run())
        try:
            yield watched
        finally:
            running.cancel()


def make(kube: Kube, *names: str) -> None:
    for name in names:
        kube.create("tasks", task_manifest(name, "nowhere"))


async def test_what_comes_changes_and_goes_is_known(kube: Kube) -> None:
    make(kube, "before")
    async with watching(kube) as watched:
        await watched.knows("before")
        make(kube, "after")
        await watched.knows("before", "after")
        kube.delete("tasks", "before")
        await watched.knows("after")


async def test_what_changed_while_the_api_server_was_away_is_known_afterwards(kube: Kube, restartable: Cluster) -> None:
    make(kube, "stays", "goes")
    async with watching(kube) as watched:
        await asyncio.to_thread(restartable.restart, "kube-apiserver")
        await eventually(lambda: deletes(kube, "goes"), PATIENCE, "an API server that is back")
        make(kube, "comes")
        await watched.knows("stays", "comes")


async def test_a_version_that_the_server_does_not_know_any_more_is_followed_by_a_list(kube: Kube) -> None:
    make(kube, "stays", "goes")
    async with watching(kube) as watched:
        await watched.knows("stays", "goes")
    kube.delete("tasks", "goes")
    async with await Api.connect(str(kube.kubeconfig)) as api:
        late = Informer(api, watched.cache)
        late._version = "1"  # as after a long outage
        running = asyncio.create_task(late.run())
        await watched.knows("stays")
        running.cancel()


async def test_a_list_of_several_pages_holds_every_object(kube: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"t{number}" for number in range(7)]
    make(kube, *names)
    monkeypatch.setattr("millpond_operator.cluster.api.PAGE", 3)
    async with watching(kube) as watched:
        await watched.knows(*names)


def deletes(kube: Kube, name: str) -> bool:
    try:
        kube.delete("tasks", name)
    except Refused as error:
        return error.status == 404
    return True
