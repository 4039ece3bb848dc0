"""PoolGroups: pools that share a ceiling get an allowance before anything is decided for them.

Owns who belongs to which group, the claims that pools make, and the groups' statuses. What is fair is decided in
`millpond_scaling.budget`, what is free right now in `decisions.groups`. Claims are remembered between two looks, so
that a pool that wakes is weighed against all others of its group; a new leader has none until its first tick.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from millpond_api.v1alpha1 import PoolGroupSpec, PoolGroupStatus
from millpond_scaling.budget import Claim, share

from millpond_operator.cluster.cache import Body, Key
from millpond_operator.cluster.writer import Target
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.conditions import make_conditions
from millpond_operator.decisions.groups import Member, decide_group_facts, grant, is_member, labels_of
from millpond_operator.handlers.world import World

GATHER = 0.5
"""Seconds in which several changes of a group become one write."""


@dataclass(frozen=True)
class Wish:
    """What a pool would do without its groups: workers it would have, and those that nobody may take from it."""

    current: int
    target: int
    busy: int


class Groups:
    """`wish` for every pool of a group, then `allow` the groups; `has` says whether a pool is in any."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._stale = True
        self._members: dict[Key, list[PoolKey]] = {}
        self._groups_of: dict[PoolKey, list[Key]] = {}
        self._wishes: dict[PoolKey, Wish] = {}
        self._shown: dict[Key, tuple[object, ...]] = {}
        self._rank = 0
        world.groups.subscribe(self._on_group)
        world.pools.subscribe(self._on_pool)

    def _on_group(self, _old: Body | None, _new: Body | None) -> None:
        self._stale = True

    def _on_pool(self, old: Body | None, new: Body | None) -> None:
        if old is None or new is None or labels_of(old) != labels_of(new):
            self._stale = True

    def has(self, key: PoolKey) -> bool:
        """Whether the pool belongs to a group."""
        if self._stale:
            self._match()
        return key in self._groups_of

    def wish(self, key: PoolKey, wish: Wish) -> None:
        """What the pool would do if it were alone."""
        self._wishes[key] = wish

    def allow(self, keys: Iterable[PoolKey]) -> None:
        """Put the allowances of all groups that these pools belong to into the pools' memories."""
        touched = {group: None for key in keys for group in self._groups_of.get(key, ())}
        found: dict[PoolKey, tuple[int, str]] = {}
        for group in touched:
            spec = self._spec(group)
            members = self._weigh(group, spec)
            for key, workers in grant(spec.max_workers, members).items():
                if key not in found or workers < found[key][0]:
                    found[key] = (workers, group.name)
            self._write(group, spec, members)
        for key, allowance in found.items():
            self.world.memory[key].allowance = allowance

    def _match(self) -> None:
        """Who belongs to whom, anew."""
        self._stale = False
        self._members = {}
        self._groups_of = defaultdict(list)
        for group in self.world.groups.objects:
            labels = self._spec(group).selector.match_labels
            members = [
                PoolKey(*pool)
                for pool, body in self.world.pools.objects.items()
                if pool.namespace == group.namespace and is_member(labels_of(body), labels)
            ]
            self._members[group] = members
            for key in members:
                self._groups_of[key].append(group)
        for key in [key for key in self._wishes if key not in self._groups_of]:
            del self._wishes[key]
        for key in self.world.pool_keys():
            if key not in self._groups_of:
                self.world.memory[key].allowance = None
        for group in self.world.groups.objects:
            if not self._members[group]:
                self._write(group, self._spec(group), [])

    def _spec(self, group: Key) -> PoolGroupSpec:
        return PoolGroupSpec.model_validate(self.world.groups.objects[group]["spec"])

    def _weigh(self, group: Key, spec: PoolGroupSpec) -> list[Member]:
        """The group's pools with their shares."""
        claims = {}
        for key in self._members[group]:
            wish, pool = self._wishes.get(key), self.world.spec(key)
            if wish is not None and pool is not None:
                scaling = pool.scaling
                claims[key] = Claim(
                    key.pool, wish.target, wish.current, wish.busy, scaling.min_workers, scaling.priority
                )
        shares = share(spec.max_workers, claims.values())
        return [
            Member(key, self._held(key), claim.wanted, shares[claim.name].allowance, claim.priority)
            for key, claim in claims.items()
        ]

    def _held(self, key: PoolKey) -> int:
        """Workers that the pool has, or that a change under way gives it."""
        memory, current = self.world.memory[key], self._wishes[key].current
        return max(current, memory.order.target) if memory.order and memory.lock.locked() else current

    def _write(self, group: Key, spec: PoolGroupSpec, members: list[Member]) -> None:
        body = self.world.groups.objects[group]
        generation = body["metadata"].get("generation", 0)
        shown = (body["metadata"]["uid"], generation, tuple(members))
        if self._shown.get(group) == shown:
            return
        self._shown[group] = shown
        facts = decide_group_facts(spec.max_workers, members)
        before = PoolGroupStatus.model_validate(body.get("status") or {})
        status = PoolGroupStatus(
            observed_generation=generation,
            pools=len(members),
            workers=sum(one.held for one in members),
            desired=sum(one.demand for one in members),
            conditions=make_conditions(before.conditions, facts, datetime.now(UTC), generation),
        )
        self._rank += 1
        target = Target("poolgroups", group.namespace, group.name, body["metadata"]["uid"])
        self.world.writer.put(target, status.to_manifest(), self._rank, GATHER)
