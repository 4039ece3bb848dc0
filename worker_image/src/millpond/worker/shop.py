"""What every attempt of a worker works with: its settings, handlers, books and helpers, made once at the start.

Owns nothing but the list of them; it must not grow behaviour of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from millpond_api.envelope import Envelope

from millpond.context import Context
from millpond.packing import Habits
from millpond.registry import LeaseHooks, Registry
from millpond.settings import Settings
from millpond.worker.board import Board, Running
from millpond.worker.conversation import Switchboard
from millpond.worker.executors import Executors
from millpond.worker.journal import Journal
from millpond.worker.limiter import Limiter
from millpond.worker.shelf import Shelf

if TYPE_CHECKING:
    from millpond.worker.desk import Desk


@dataclass(eq=False)
class Shop:
    """What every attempt of a worker works with."""

    settings: Settings
    handlers: Registry
    board: Board
    journal: Journal
    executors: Executors
    context_of: Callable[[Envelope, Running], Context]
    limiter: Limiter
    shelf: Shelf
    lease_hooks: LeaseHooks
    switchboard: Switchboard
    note: Callable[[str, str], None] = lambda reason, message: None
    """Tell something about this worker in its log of transitions."""
    habits: Habits = field(init=False)
    desk: "Desk" = field(init=False)
    """Where leases are asked for; it works with the same shop."""

    def __post_init__(self) -> None:
        results = self.settings.results
        self.habits = Habits(results.codecs, results.pickle)
