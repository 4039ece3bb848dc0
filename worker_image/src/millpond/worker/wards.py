"""A child process that is a program of its own, as its supervisor handles it: started, watched, told to end, killed.

Owns the process and the watching of its end. It survives one that does not end when it is told to. It decides nothing:
whether it is started again is `supervising`'s.
"""

import asyncio
import contextlib
import math
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Program:
    """A `supervising.Ward`. `crashed` hears how it ended, unless it was told to end by `tell` (None: SIGTERM)."""

    command: Sequence[str]
    crashed: Callable[[str], None]
    inherited: Sequence[int] = ()
    """File descriptors that it has under the same numbers."""
    told: bytes = b""
    """What it reads from its stdin."""
    tell: Callable[[], None] | None = None
    process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _end: "asyncio.Task[None] | None" = field(default=None, init=False)
    _wanted: bool = field(default=False, init=False)

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command, pass_fds=self.inherited, stdin=asyncio.subprocess.PIPE
        )
        assert self.process.stdin is not None
        self.process.stdin.write(self.told)
        self.process.stdin.close()
        self._end = asyncio.create_task(self._await_end(self.process))

    async def stop(self, within: float) -> None:
        self._wanted = True
        process, end = self.process, self._end
        if process is None or end is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if within > 0 and not end.done():
                self.tell() if self.tell else process.terminate()
                await asyncio.wait((end,), timeout=None if math.isinf(within) else within)
            if not end.done():
                process.kill()
        await end

    async def _await_end(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not self._wanted:
            self.crashed(describe_exit(code))


def describe_exit(code: int | None) -> str:
    """What ended a process, from its exit code (negative: the signal): `was ended by SIGKILL`."""
    if code is None:
        return "ended without an exit code"
    if code >= 0:
        return f"ended with exit code {code}"
    known = [one.value for one in signal.Signals]
    return f"was ended by {signal.Signals(-code).name if -code in known else f'signal {-code}'}"
