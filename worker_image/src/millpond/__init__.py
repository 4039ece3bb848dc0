"""Millpond: handlers for tasks, and the client that submits them.

    from millpond import App, Context

    app = App()

    @app.task("greet")
    async def greet(ctx: Context, name: str) -> str:
        return f"hello {name}"

Everything that users import is here; the modules below may move.
"""

from millpond_api.lifecycle import TaskState
from millpond_api.limits import KeyPolicy, Places, PoolLimits, Rate
from millpond_api.retry import RetryPolicy

from millpond.access import Access, AccessError
from millpond.app import App
from millpond.client import Client
from millpond.context import Context, current
from millpond.errors import (
    ArgumentsNotSerializable,
    ArgumentsRefused,
    ArgumentsTooLarge,
    BrokerRefused,
    CallFailed,
    CallRefused,
    CallTimeout,
    Cancel,
    CheckoutTimeout,
    CheckpointRefused,
    CodecMissing,
    CodecRefused,
    DeadLetterNotFound,
    HardTimeout,
    LeaseLost,
    MessageNotSerializable,
    MessageTooLarge,
    MillpondError,
    NonRetryable,
    NotConnected,
    NotRunning,
    PoolNotFound,
    PriorityNotFound,
    QueryFailed,
    QueryTimeout,
    QueueFull,
    ResultExpired,
    ResultTimeout,
    Retry,
    SignalsFull,
    SignalTimeout,
    Snooze,
    SoftTimeout,
    StaleLease,
    TaskCancelled,
    TaskEnded,
    TaskExpired,
    TaskFailed,
    UnknownQuery,
    WorkerProcessDied,
    WorkerRefused,
    WorkerUnreachable,
)
from millpond.gathering import as_completed, gather
from millpond.handle import TaskHandle, TaskStatus
from millpond.inbox import Signal
from millpond.leased import LeasedWorker
from millpond.letters import DeadLetter, LetterFilter
from millpond.submission import Options
from millpond.unique import Unique

__all__ = [
    "Access",
    "AccessError",
    "App",
    "ArgumentsNotSerializable",
    "ArgumentsRefused",
    "ArgumentsTooLarge",
    "BrokerRefused",
    "CallFailed",
    "CallRefused",
    "CallTimeout",
    "Cancel",
    "CheckoutTimeout",
    "CheckpointRefused",
    "Client",
    "CodecMissing",
    "CodecRefused",
    "Context",
    "DeadLetter",
    "DeadLetterNotFound",
    "HardTimeout",
    "KeyPolicy",
    "LeaseLost",
    "LeasedWorker",
    "LetterFilter",
    "MessageNotSerializable",
    "MessageTooLarge",
    "MillpondError",
    "NonRetryable",
    "NotConnected",
    "NotRunning",
    "Options",
    "Places",
    "PoolLimits",
    "PoolNotFound",
    "PriorityNotFound",
    "QueryFailed",
    "QueryTimeout",
    "QueueFull",
    "Rate",
    "ResultExpired",
    "ResultTimeout",
    "Retry",
    "RetryPolicy",
    "Signal",
    "SignalTimeout",
    "SignalsFull",
    "Snooze",
    "SoftTimeout",
    "StaleLease",
    "TaskCancelled",
    "TaskEnded",
    "TaskExpired",
    "TaskFailed",
    "TaskHandle",
    "TaskState",
    "TaskStatus",
    "Unique",
    "UnknownQuery",
    "WorkerProcessDied",
    "WorkerRefused",
    "WorkerUnreachable",
    "as_completed",
    "current",
    "gather",
]
