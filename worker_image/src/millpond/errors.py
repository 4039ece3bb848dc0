"""Every error that Millpond's SDK raises at its user: typed, and each text says what to do.

Owns the exceptions of the client and of the worker's API. It must not import the broker or anything that does I/O, so
that an application may import it anywhere. A task's own failure arrives as data (`TaskFailed.type`, `.traceback`):
the exception's class may not exist on this side.
"""

from typing import Any

from millpond.spans import Span, read_wait


class MillpondError(Exception):
    """The base of all errors of Millpond."""


class NotConnected(MillpondError):
    """NATS cannot be reached, or the client is closed."""


class BrokerRefused(MillpondError):
    """NATS is there, but Millpond's streams are not, or it refuses the request."""


class ResultTimeout(MillpondError, TimeoutError):
    """The task has not ended within the time that `result` was given; it goes on, ask again later."""


class PoolNotFound(MillpondError):
    """The pool has no queue in this namespace."""


class PriorityNotFound(MillpondError, ValueError):
    """The pool has no class of this name, so nobody would take the task."""


class QueueFull(MillpondError):
    """The pool's queue holds `maxDepth` tasks and refuses more."""


class ArgumentsNotSerializable(MillpondError, TypeError):
    """The arguments cannot be written in the codec."""


class ArgumentsRefused(MillpondError, TypeError):
    """No worker's handler would take these arguments; the text shows its signature."""


class ArgumentsTooLarge(MillpondError, ValueError):
    """The arguments are larger than a task may carry."""


class DeadLetterNotFound(MillpondError, KeyError):
    """There is no dead letter of this task: it was redriven or purged, it is older than 30 days, or it never failed."""

    def __str__(self) -> str:
        return str(self.args[0])


class TaskFailed(MillpondError):
    """The task ended as Failed. `type`, `message` and `traceback` are those of the handler's exception."""

    def __init__(self, task: str, type: str, message: str, traceback: str = "", attempts: int = 1) -> None:
        self.task, self.type, self.message = task, type, message
        self.traceback, self.attempts = traceback, attempts
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"task {task} failed after {times} with {type}: {message}; its dead letter can be redriven")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str, int]]:
        return type(self), (self.task, self.type, self.message, self.traceback, self.attempts)


class TaskCancelled(MillpondError):
    """The task was cancelled before it ended."""


class TaskExpired(MillpondError):
    """The task's deadline passed before it ended."""


class NotRunning(MillpondError):
    """No worker runs the task now, so nobody can answer for it; `state` is how it stands."""

    def __init__(self, task: str, state: str, advice: str) -> None:
        self.task, self.state, self.advice = task, str(state), advice
        super().__init__(f"task {task} is {state}, and only a running one can be asked: {advice}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        return type(self), (self.task, self.state, self.advice)


class WorkerUnreachable(MillpondError):
    """The worker that should answer is gone, cut off or too busy to answer in time."""


class WorkerRefused(MillpondError):
    """The worker answered, and it was no: it is older than what is asked of it, for instance."""


class CheckoutTimeout(MillpondError, TimeoutError):
    """No worker's slot became free within the time that `checkout` was given; the wait was withdrawn."""


class LeaseLost(MillpondError):
    """The lease is over: its worker was lost or stopped, or it ended by its terms. Check out again; the state is gone.

    Whether a call that was under way has run is not known.
    """


class StaleLease(LeaseLost):
    """The worker refused a call of a lease that has ended, or whose slot was granted anew; the call has not run."""


class CallRefused(MillpondError):
    """This call of a leased worker cannot run; the lease goes on. The text says why."""


class CallTimeout(MillpondError, TimeoutError):
    """The call of a leased worker was not answered within its timeout; the worker was asked to stop it."""


class CallFailed(MillpondError):
    """The handler that a leased worker was asked to run raised. `type`, `message`, `traceback` are its exception's."""

    def __init__(self, handler: str, type: str, message: str, traceback: str = "") -> None:
        self.handler, self.type, self.message, self.traceback = handler, type, message, traceback
        super().__init__(f"{handler} failed with {type}: {message}")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        return type(self), (self.handler, self.type, self.message, self.traceback)


class TaskEnded(MillpondError):
    """The task has ended, so a signal would reach nobody. A failed one can be redriven and signalled then."""


class SignalsFull(MillpondError):
    """The task holds as many signals as it may; it has to take some (and say so by a checkpoint) before more come."""


class SignalTimeout(MillpondError, TimeoutError):
    """No such signal has come in time; it may still come."""


class UnknownQuery(MillpondError, LookupError):
    """The running handler answers no query of this name; the text names those that it does."""


class QueryFailed(MillpondError):
    """The handler's query function raised. `type`, `message` and `traceback` are those of its exception."""

    def __init__(self, query: str, type: str, message: str, traceback: str = "") -> None:
        self.query, self.type, self.message, self.traceback = query, type, message, traceback
        super().__init__(f"query {query!r} failed with {type}: {message}; the task itself goes on")

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        return type(self), (self.query, self.type, self.message, self.traceback)


class QueryTimeout(MillpondError, TimeoutError):
    """The handler did not answer in time: its event loop is blocked, or its query function is slow."""


class CheckpointRefused(MillpondError):
    """The checkpoint was not stored: another attempt of the task goes on from the last one, or the broker says no."""


class MessageNotSerializable(MillpondError, TypeError):
    """A signal, a query's answer or a checkpoint has no form in the codec."""


class MessageTooLarge(MillpondError, ValueError):
    """A signal, a query's answer or a checkpoint is larger than it may be."""


class NonRetryable(MillpondError):
    """Raise it (or a subclass) in a handler: the task fails at once, however many attempts it has left."""


class Retry(MillpondError):
    """Raise it in a handler to be tried again after `after` (seconds); it uses an attempt like any other failure."""

    def __init__(self, message: str = "the handler asked to be tried again", *, after: Span) -> None:
        super().__init__(message)
        self.after = read_wait(after, "Retry(after=…)")

    def __reduce__(self) -> tuple[Any, tuple[str, float]]:
        return _make_retry, (str(self), self.after)


def _make_retry(message: str, after: float) -> Retry:
    return Retry(message, after=after)


class Snooze(MillpondError):
    """Raise it in a handler to have the task run again after `seconds`; it uses no attempt and is no failure."""

    def __init__(self, seconds: Span, reason: str = "") -> None:
        self.seconds, self.reason = read_wait(seconds, "Snooze(…)"), reason
        super().__init__(reason or f"put off for {self.seconds:g} s")

    def __reduce__(self) -> tuple[type, tuple[float, str]]:
        return type(self), (self.seconds, self.reason)


class Cancel(MillpondError):
    """Raise it in a handler to cancel its own task: it ends as Cancelled, with the reason, and is not tried again."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the handler cancelled its task")
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.reason,)


class SoftTimeout(MillpondError, TimeoutError):
    """Raised inside a handler that has run longer than its soft timeout. Clean up and return, or let it pass."""


class HardTimeout(MillpondError, TimeoutError):
    """The attempt ran longer than its timeout and was ended by force; its traceback is where it was then."""


class WorkerProcessDied(MillpondError):
    """The child process that ran the handler ended in the middle of it: a crash, `os._exit`, out of memory."""


class CodecMissing(MillpondError):
    """A codec (or compression) is not installed on this side. The text says what to install."""


class CodecRefused(NonRetryable):
    """This side has not agreed to the codec: pickle without the opt-in, or one that the pool does not allow."""


class ResultExpired(MillpondError):
    """The task succeeded, but its result was kept for a limited time only and is gone."""


class BadArguments(NonRetryable):
    """The task's arguments do not fit the handler's parameters."""


class ResultTooLarge(NonRetryable):
    """The handler's result is larger than a task may return. Store it elsewhere and return where it is."""


class ResultNotSerializable(NonRetryable):
    """The handler's result has no form in the codec. Return plain values, dataclasses or pydantic models."""
