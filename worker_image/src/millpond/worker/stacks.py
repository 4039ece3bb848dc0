"""Where something is: the stack of a thread or of a suspended coroutine, as text for people.

Pure reading of the interpreter; it must never raise, because it explains what is broken already.
"""

import sys
import traceback
from types import CodeType
from typing import Any

MOST = 16 * 1024


def thread_stack(ident: int | None) -> str:
    """The stack of a thread of this process; empty when it has none."""
    frame = sys._current_frames().get(ident or 0)
    return clip("".join(traceback.format_stack(frame))) if frame else ""


def coroutine_stack(coroutine: Any, ident: int | None) -> str:
    """Where a coroutine waits, from its outermost frame inwards; the thread's stack if it is the one that runs."""
    if getattr(coroutine, "cr_running", False):
        return thread_stack(ident)
    lines: list[str] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            lines += traceback.format_stack(frame, limit=1)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "_coroutine", None)
    return clip("".join(lines))


def innermost_line(stack: str, function: Any) -> str:
    """`census.py:31 in parse`: the innermost line of the handler's own file, else the innermost of all."""
    code: CodeType | None = getattr(function, "__code__", None)
    lines = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ")]
    own = [line for line in lines if code is not None and f'"{code.co_filename}"' in line]
    if not lines:
        return ""
    # faulthandler begins with the innermost one.
    found = (own or lines)[0 if "most recent call first" in stack else -1]
    parts = found.removeprefix("File ").replace('"', "").split(", ")
    return (
        f"{parts[0].rpartition('/')[2]}:{parts[1].removeprefix('line ')} {parts[2] if len(parts) > 2 else ''}".strip()
    )


def clip(text: str) -> str:
    """The end of it: the innermost frames."""
    return text[-MOST:]
