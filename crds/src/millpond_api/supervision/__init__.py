"""OTP's supervisor, pure: `specification` says what is asked of it, `machine` what it does."""

from millpond_api.supervision.machine import Command, Ended, Start, Stop, Supervisor, add_restart
from millpond_api.supervision.specification import (
    BRUTAL,
    INFINITY,
    AutoShutdown,
    BadSpecification,
    Child,
    End,
    Exit,
    Flags,
    Restart,
    Strategy,
)

__all__ = [
    "BRUTAL",
    "INFINITY",
    "AutoShutdown",
    "BadSpecification",
    "Child",
    "Command",
    "End",
    "Ended",
    "Exit",
    "Flags",
    "Restart",
    "Start",
    "Stop",
    "Strategy",
    "Supervisor",
    "add_restart",
]
