"""Spans of time as users give them: seconds as a number, or a timedelta. Pure.

Owns the one reading of them, for options, handlers and what a handler raises, so that the same value means the same
everywhere and what is none is refused where it was written, not where it is used.
"""

import math
from datetime import timedelta

Span = float | timedelta


def read_seconds(span: Span, what: str) -> float:
    """`span` in seconds; TypeError or ValueError, which names `what`, when it is no finite time."""
    # A text is the likeliest mistake: durations in manifests are texts.
    if isinstance(span, bool) or not isinstance(span, int | float | timedelta):
        raise TypeError(f"{what} must be seconds (a number) or a timedelta, not {span!r}")
    seconds = span.total_seconds() if isinstance(span, timedelta) else float(span)
    if not math.isfinite(seconds):
        raise ValueError(f"{what} must be a finite time, not {span!r}: leave it out for none")
    return seconds


def read_wait(span: Span, what: str) -> float:
    """The same, 0 or more."""
    seconds = read_seconds(span, what)
    if seconds < 0:
        raise ValueError(f"{what} must be 0 seconds or more, not {span!r}")
    return seconds


def read_limit(span: Span | None, what: str) -> float | None:
    """The same, more than 0; None stays None, for no limit."""
    if span is None:
        return None
    seconds = read_seconds(span, what)
    if seconds <= 0:
        raise ValueError(f"{what} must be more than 0 seconds, not {span!r}: leave it out for none")
    return seconds
