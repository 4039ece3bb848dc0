"""Millpond: handlers for tasks, and the client that submits them.

    from millpond import App, Context

    app = App()

    @app.task("greet")
    async def greet(ctx: Context, name: str) -> str:
        return f"hello {name}"

Everything that users import is here; the modules below may move.
"""

from millpond_api.limits import KeyPolicy, Places, PoolLimits, Rate
from millpond_api.retry import RetryPolicy

from millpond.app import App
from millpond.client import Client
from millpond.context import Context
from millpond.errors import (
    ArgumentsNotSerializable,
    ArgumentsRefused,
    ArgumentsTooLarge,
    BrokerRefused,
    Cancel,
    DeadLetterNotFound,
    HardTimeout,
    MillpondError,
    NonRetryable,
    NotConnected,
    PoolNotFound,
    PriorityNotFound,
    QueueFull,
    ResultTimeout,
    Retry,
    Snooze,
    SoftTimeout,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    WorkerProcessDied,
)
from millpond.handle import TaskHandle
from millpond.letters import DeadLetter, LetterFilter
from millpond.submission import Options

__all__ = [
    "App",
    "ArgumentsNotSerializable",
    "ArgumentsRefused",
    "ArgumentsTooLarge",
    "BrokerRefused",
    "Cancel",
    "Client",
    "Context",
    "DeadLetter",
    "DeadLetterNotFound",
    "HardTimeout",
    "KeyPolicy",
    "LetterFilter",
    "MillpondError",
    "NonRetryable",
    "NotConnected",
    "Options",
    "Places",
    "PoolLimits",
    "PoolNotFound",
    "PriorityNotFound",
    "QueueFull",
    "Rate",
    "ResultTimeout",
    "Retry",
    "RetryPolicy",
    "Snooze",
    "SoftTimeout",
    "TaskCancelled",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "WorkerProcessDied",
]
