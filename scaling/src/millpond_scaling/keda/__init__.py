"""A KEDA ScaledObject as a WorkerPool. Pure; meanings as in KEDA v2.20 (apis/keda/v1alpha1, pkg/scalers, pkg/scaling).

Owns which field becomes which, and says in words what has no equivalent and what to do instead: `pool` holds the
bounds, pauses and the worker, `triggers` what is scaled on, `behavior` how fast. Nothing is dropped in silence: a field
that is not read at all is named as well.
"""

from millpond_scaling.keda.notes import Choice, Conversion, ImportRefused, Note
from millpond_scaling.keda.pool import convert

__all__ = ["Choice", "Conversion", "ImportRefused", "Note", "convert"]
