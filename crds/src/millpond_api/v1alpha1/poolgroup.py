"""PoolGroup: a ceiling that several pools of a namespace share."""

from pydantic import Field

from millpond_api.v1alpha1.common import Condition, Model


class Selector(Model):
    """Which pools belong to the group."""

    match_labels: dict[str, str] = Field(
        default_factory=dict,
        max_length=16,
        description="Labels that a WorkerPool must have, all of them. Empty selects every pool of the namespace.",
    )


class PoolGroupSpec(Model):
    """A ceiling for several pools."""

    max_workers: int = Field(
        ge=0,
        le=100_000,
        description="Workers that the pools of the group may have together. When they need more, pools with a higher "
        "scaling.priority come first and equals share fairly; every pool's minWorkers come before anybody's extra. A "
        "busy worker is never stopped for it: it finishes and is not replaced. What kubectl scale sets is not cut, "
        "but leaves less to the others.",
    )
    selector: Selector = Field(
        default_factory=Selector,
        description="Which pools share the ceiling. Empty selects every pool of the namespace. A pool of several "
        "groups keeps to the smallest of what they leave to it.",
    )


class PoolGroupStatus(Model):
    """What the operator observed and decided."""

    observed_generation: int | None = Field(default=None, description="The spec's generation that this speaks of.")
    pools: int = Field(default=0, description="Pools that belong to the group.")
    workers: int = Field(default=0, description="Workers that they have together, as asked for.")
    desired: int = Field(default=0, description="Workers that they would have without the group's ceiling.")
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Ready; Limited while the pools need more than the ceiling allows, with who gets what.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


class PoolGroup(Model):
    """A ceiling that several pools share."""

    spec: PoolGroupSpec
    status: PoolGroupStatus | None = None
