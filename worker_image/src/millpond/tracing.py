"""W3C trace context (https://www.w3.org/TR/trace-context): from the submitter into the envelope, and into the handler.

Owns both ends. OpenTelemetry's API is used where the program has imported it, and is never imported for its own sake:
without it nothing can be traced here. A task that a handler submits goes on with the handler's own trace either way. It
makes no spans, carries no tracestate, and must not fail a task: what is no traceparent is dropped.
"""

import re
import sys

from millpond.context import current

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
HEADER = "traceparent"


def check_trace(text: str) -> str:
    """The traceparent itself; empty for what is none (a version other than 00, an id of zeros)."""
    return text if _TRACEPARENT.fullmatch(text) else ""


def read_trace() -> str:
    """The traceparent of the code that calls: of its span, else of the task that it runs for; empty without both."""
    if _is_used():
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        if found := check_trace(carrier.get(HEADER, "")):
            return found
    task = current()
    return task.trace if task else ""


def enter_trace(trace: str) -> None:
    """Make it the parent of spans that are begun from here on, in the contextvars' context of the caller."""
    if trace and _is_used():
        from opentelemetry.context import attach
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Never detached: each call of a handler has a context of its own, which ends with it.
        attach(TraceContextTextMapPropagator().extract({HEADER: trace}))


def _is_used() -> bool:
    return "opentelemetry.trace" in sys.modules
