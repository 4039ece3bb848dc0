"""The worker's logs: JSON lines on stderr, our loggers' and everybody else's, each naming the task that it is about.

Owns the configuration of structlog and of the standard library's logging, the same in the worker and in its child
processes. The task comes from the context variable of the attempt, so it follows the code into loops, threads and
child processes, and a line that belongs to no task names none.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from millpond.context import current

FORMAT = "%(asctime)s %(levelname)s %(name)s%(millpond)s %(message)s"


def configure_logging() -> None:
    """JSON lines on stderr; readable text on a terminal."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            name_task,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    logging.setLogRecordFactory(TaskRecord)


class TaskRecord(logging.LogRecord):
    """A record with `task`, `handler` and `attempt`, for any formatter; empty outside of an attempt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        context = current()
        self.task = context.task_id if context else ""
        self.handler = context.handler if context else ""
        self.attempt = context.attempt if context else 0
        self.millpond = f" task={self.task} handler={self.handler} attempt={self.attempt}" if context else ""


def name_task(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the task of the attempt that this line was written in, unless it names one itself."""
    context = current()
    if context is not None:
        for key, value in (("task", context.task_id), ("handler", context.handler), ("attempt", context.attempt)):
            event.setdefault(key, value)
    return event
