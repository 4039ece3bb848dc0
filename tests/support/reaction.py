"""How long from a task's publish until the Deployment is patched, from zero and above it, seen from outside.

Owns one round: a pool of its own, a watch on its Deployment, a publish through the SDK. Both moments are taken
on this machine's clock. The pods never start (nobody opens their scheduling gate): what is measured ends with the
patch, and twenty workers that start would only take the cores from it.
"""

import asyncio
import json
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from millpond import Client

from tests.support.kube import Kube, condition, make_client
from tests.support.stage import Stage

NOWHERE = {"spec": {"schedulingGates": [{"name": "millpond.dev/nowhere"}]}}
WATCH_SECONDS = 60


@dataclass(frozen=True)
class Reaction:
    """One round in milliseconds: seen by a watch from outside, and as the operator's ledger has it (if it does)."""

    seen: float
    told: float | None


@dataclass(frozen=True)
class Figures:
    """All rounds."""

    reactions: Sequence[Reaction]

    @property
    def p50(self) -> float:
        return statistics.median(one.seen for one in self.reactions)

    @property
    def slowest(self) -> float:
        return max(one.seen for one in self.reactions)

    def __str__(self) -> str:
        return f"p50 {self.p50:.0f} ms, max {self.slowest:.0f} ms ({len(self.reactions)} rounds)"


async def measure(stage: Stage, url: str, rounds: int, standing: int = 0) -> Figures:
    """That many rounds, one after the other, each with a pool of its own that has `standing` workers, all of them
    needed, when the measured task comes."""
    reactions = []
    async with Client.connect(url, namespace=stage.namespace) as client:
        for number in range(rounds):
            reactions.append(await _measure_once(stage, client, f"r{standing}-{number}", standing))
    return Figures(reactions)


async def _measure_once(stage: Stage, client: Client, pool: str, standing: int) -> Reaction:
    stage.make_pool(pool, template=NOWHERE, scaling={"minWorkers": standing, "maxWorkers": standing + 1})
    await asyncio.to_thread(stage.wait, lambda: _is_at(stage, pool, standing), f"{pool} at {standing}")
    for number in range(standing):
        await client.submit(pool, "echo", [number])
    # A moment of no particular phase: a poll must be met anywhere in its second, not always right after its tick.
    await asyncio.sleep(random.uniform(0.2, 1.2))
    watch = Watch(stage.kube, stage.kube.deployments(pool)[-1]["metadata"]["name"])
    scaled = asyncio.create_task(asyncio.to_thread(watch.await_scale_up, standing))
    await asyncio.to_thread(watch.opened.wait, WATCH_SECONDS)
    began = time.monotonic()
    await client.submit(pool, "echo", ["wake up"])
    seen = (await scaled - began) * 1000
    told = await asyncio.to_thread(stage.wait, lambda: _woken(stage, pool, standing), "the decision in the ledger")
    stage.kube.delete("workerpools", pool)
    return Reaction(seen, told[0])


def _is_at(stage: Stage, pool: str, standing: int) -> bool:
    body = stage.kube.get("workerpools", pool)
    reason = condition(body, "Ready").get("reason")
    return (
        reason not in (None, "QueueMissing")
        and (reason == "AtZero") == (standing == 0)
        and (stage.replicas(pool) == standing)
    )


def _woken(stage: Stage, pool: str, standing: int) -> tuple[float | None] | None:
    """What the ledger says of the wake, in a tuple so that a missing figure is an answer too."""
    decisions = [one for one in stage.pool(pool).get("decisions", []) if one["from"] == standing < one["to"]]
    return (decisions[-1]["inputs"].get("wakeDelayMs"),) if decisions else None


class Watch:
    """A watch on one Deployment; `opened` is set when the API server has answered it."""

    def __init__(self, kube: Kube, name: str) -> None:
        version = kube.get("deployments", name)["metadata"]["resourceVersion"]
        self._path = f"{kube.path('deployments')}?watch=1&fieldSelector=metadata.name%3D{name}"
        self._path += f"&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
        self._kubeconfig = kube.kubeconfig
        self.opened = threading.Event()

    def await_scale_up(self, standing: int = 0) -> float:
        """The moment (monotonic) at which the Deployment asks for more pods than `standing`."""
        with make_client(self._kubeconfig) as http, http.stream("GET", self._path, timeout=WATCH_SECONDS) as answer:
            self.opened.set()
            for line in answer.iter_lines():
                if line and json.loads(line)["object"].get("spec", {}).get("replicas", 0) > standing:
                    return time.monotonic()
        raise AssertionError(f"the Deployment was not scaled within {WATCH_SECONDS} s")
