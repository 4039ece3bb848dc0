"""Forecasts of the pools that asked for one: learnt from every decision, kept on the broker across leaders.

Owns each pool's history while this process leads: loaded once, kept whenever a bin of five minutes closes. What is
learnt and foreseen is decided in `millpond_scaling.forecast`. Until a history is loaded nothing is foreseen and nothing
is learnt, so that a new leader never writes an empty one over a full one. Survives NATS being away: loading is tried
again, what was not kept is kept with the next bin.
"""

from dataclasses import dataclass

import orjson
import structlog
from millpond import transport as wire
from millpond_scaling import Decision, Observation, forecast
from millpond_scaling.forecast import History, Plan
from millpond_scaling.policy import make_plan

from millpond_operator.broker import history as store
from millpond_operator.cluster.cache import Body, key_of
from millpond_operator.cluster.workqueue import WorkQueue
from millpond_operator.cluster_key import PoolKey
from millpond_operator.handlers.world import World

log = structlog.get_logger(__name__)


@dataclass
class _Known:
    """A pool's plan and history; the history is None until it was loaded. `kept` is the bin that was kept last."""

    plan: Plan
    history: History | None = None
    kept: int = -1


class Forecaster:
    """`foresee` before a decision, `learn` after it; `run` loads and keeps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._known: dict[PoolKey, _Known] = {}
        self.queue: WorkQueue[PoolKey] = WorkQueue("forecasts", self._load_or_keep, concurrency=4)
        world.pools.subscribe(self._on_pool)

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        if old is not None and new is None:
            self._known.pop(PoolKey(*key_of(old)), None)

    def foresee(self, key: PoolKey, wall: float) -> int | None:
        """Workers that will be needed soon; None when nobody asked, or the history is not sure enough."""
        spec = self.world.spec(key)
        plan = make_plan(spec) if spec is not None else None
        if plan is None:
            if self._known.pop(key, None):
                self.world.memory[key].forecast = ""
            return None
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known(plan)
            self.queue.add(key)
        known.plan = plan
        return None if known.history is None else forecast.floor(known.history, plan, wall)

    def learn(self, key: PoolKey, seen: Observation, decision: Decision) -> None:
        """What the queue needed at this look, if the decision knows it."""
        known, needed = self._known.get(key), decision.inputs.get("needed")
        if known is None or known.history is None or not isinstance(needed, int):
            return
        known.history = forecast.observe(known.history, known.plan, seen.wall, needed)
        if known.history.open.number != known.kept:
            known.kept = known.history.open.number
            self.world.memory[key].forecast = forecast.describe(known.history, known.plan)
            self.queue.add(key)

    async def _load_or_keep(self, key: PoolKey) -> None:
        known = self._known.get(key)
        if known is None:
            return
        if known.history is not None:
            body = orjson.dumps(forecast.to_json(known.history))
            if not await store.keep(self.world.transport, key, body):
                raise wire.Unconfirmed("NATS is away: what the forecast has learnt is kept later")
            return
        body_kept = await store.read(self.world.transport, key)
        known.history = forecast.from_json(_parse(body_kept), known.plan)
        known.kept = known.history.open.number
        self.world.memory[key].forecast = forecast.describe(known.history, known.plan)
        log.info("forecast loaded", pool=str(key), says=self.world.memory[key].forecast)


def _parse(body: bytes | None) -> object:
    """Plain data; None where there is none or it is no JSON (the forecast then begins anew)."""
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        return None
