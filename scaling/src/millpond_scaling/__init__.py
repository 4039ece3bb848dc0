"""How many workers a pool should have: pure decisions, for the operator, the simulator and replay.

Nothing here reads a clock, a server or a file. The operator feeds what it saw into `decide`; the command feeds what was
recorded, or what a trace says, into the very same function.
"""

from millpond_scaling.engine import decide
from millpond_scaling.model import ClassLoad, Decision, Memory, Observation, Policy, Step
from millpond_scaling.policy import make_plan, make_policy
from millpond_scaling.schedules import check_schedules

__all__ = [
    "ClassLoad",
    "Decision",
    "Memory",
    "Observation",
    "Policy",
    "Step",
    "check_schedules",
    "decide",
    "make_plan",
    "make_policy",
]
