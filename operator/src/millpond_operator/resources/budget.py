"""The disruption budget of a pool's busy workers: pure, a manifest for server-side apply.

It selects only pods that carry the busy label and allows none of them to be evicted, so it is written once and never
again: what changes is who has the label. An idle worker is not selected and can be evicted at once.
"""

from typing import Any

from millpond_api import LABEL_BUSY, LABEL_POOL

from millpond_operator.cluster_key import PoolKey
from millpond_operator.resources.deployment import MANAGED_BY


def budget_name(pool: str) -> str:
    return f"{pool}-busy-workers"


def make_budget(key: PoolKey) -> dict[str, Any]:
    """The manifest. It has no owner: the workers of a deleted pool are protected until they are done."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": budget_name(key.pool),
            "namespace": key.namespace,
            "labels": {MANAGED_BY: "millpond", LABEL_POOL: key.pool},
        },
        "spec": {
            "maxUnavailable": 0,
            "selector": {"matchLabels": {LABEL_POOL: key.pool, LABEL_BUSY: "true"}},
            # A pod that is not ready (its process crashes again and again) must not hold up a node's drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
