"""How the operator names a pool in memory: by namespace and name, as in subjects and manifests."""

from typing import NamedTuple


class PoolKey(NamedTuple):
    """A pool of a namespace."""

    namespace: str
    pool: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pool}"
