"""What a supervisor is told about itself and its children, and what OTP refuses of it (supervisor.erl: check_flags,
check_childspec). Owns the vocabulary; what follows from it is decided in `machine`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum


class Strategy(StrEnum):
    """Who is restarted with a child that is."""

    ONE_FOR_ONE = "OneForOne"
    ONE_FOR_ALL = "OneForAll"
    REST_FOR_ONE = "RestForOne"
    SIMPLE_ONE_FOR_ONE = "SimpleOneForOne"
    """Any number of children of one kind, added later; one of them is restarted alone."""


class Restart(StrEnum):
    """When a child that ended is restarted."""

    PERMANENT = "Permanent"
    TRANSIENT = "Transient"
    """When it ended badly; `NORMAL` and `SHUTDOWN` are no bad ends."""
    TEMPORARY = "Temporary"
    """Never, also not with a sibling that is."""


class AutoShutdown(StrEnum):
    """Whether significant children that end by themselves end their supervisor."""

    NEVER = "Never"
    ANY_SIGNIFICANT = "AnySignificant"
    ALL_SIGNIFICANT = "AllSignificant"


class Exit(StrEnum):
    """How a child ended."""

    NORMAL = "Normal"
    SHUTDOWN = "Shutdown"
    """It was told to; so ends a supervisor that gave up."""
    ERROR = "Error"


class End(StrEnum):
    """Why a supervisor ended."""

    STOPPED = "Stopped"
    INTENSITY = "Intensity"
    """More restarts than `intensity` within `period`."""
    SIGNIFICANT = "Significant"
    START_FAILED = "StartFailed"
    """A child could not be started at the very beginning; later that is a restart that failed, and counts as one."""


BRUTAL = 0.0
"""`Child.shutdown`: killed at once."""
INFINITY = math.inf


@dataclass(frozen=True)
class Child:
    """A child's specification. `shutdown` is seconds from being told to end until it is killed (BRUTAL, INFINITY)."""

    id: str
    restart: Restart = Restart.PERMANENT
    shutdown: float = 5.0
    significant: bool = False


@dataclass(frozen=True)
class Flags:
    """A supervisor's flags, with OTP's defaults: more than `intensity` restarts within `period` seconds end it."""

    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 1
    period: int = 5
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER


class BadSpecification(ValueError):
    """Flags or children that OTP refuses too; the text names the rule."""


def check(flags: Flags, children: list[Child]) -> None:
    """BadSpecification for what OTP's `check_flags` and `check_childspec` refuse."""
    if flags.intensity < 0 or flags.period <= 0:
        raise BadSpecification("intensity is 0 or more, and period more than 0 seconds")
    if len({child.id for child in children}) < len(children):
        raise BadSpecification("two children have the same id")
    for child in children:
        if child.significant and flags.auto_shutdown is AutoShutdown.NEVER:
            raise BadSpecification(f"child {child.id!r} is significant, which needs an autoShutdown other than Never")
        if child.significant and child.restart is Restart.PERMANENT:
            raise BadSpecification(
                f"child {child.id!r} is Permanent: it never ends by itself, so it can't be significant"
            )
        if not child.shutdown >= 0:
            raise BadSpecification(f"child {child.id!r}: shutdown is 0 seconds or more")
