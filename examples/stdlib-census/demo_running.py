"""Running the demo's commands: one after another or side by side, each step with its progress and its time.

Owns processes and what stands on the terminal about them. It must not know what the demo does. A step that fails ends
the demo with the command, its exit code and the end of its output.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).resolve().parent
KEPT_LINES = 3
"""Lines of a failed command's output that are shown again."""

console = Console(highlight=False)


class DemoFailed(Exception):
    """A step did not work; the sentence says which and why."""


@dataclass(frozen=True)
class Command:
    """A process to run. `tag` marks its lines when several run at once."""

    tag: str
    argv: tuple[str, ...]


def python(tag: str, *arguments: str) -> Command:
    """This interpreter on a script or module of the repository."""
    return Command(tag, (sys.executable, *arguments))


@contextmanager
def step(title: str) -> Iterator[None]:
    """Prints a step's title, then how long it took."""
    console.print(Text(f"\n▶ {title}", style="bold"))
    began = time.monotonic()
    yield
    console.print(Text(f"  done in {time.monotonic() - began:.1f} s", style="dim"))


def run_together(*commands: Command) -> list[str]:
    """Runs the commands at once, each line of output under its tag; all lines. DemoFailed when one fails."""
    with ThreadPoolExecutor(len(commands)) as pool:
        runs = [pool.submit(_run_tagged, command) for command in commands]
    return [line for run in runs for line in run.result()]


def _run_tagged(command: Command) -> list[str]:
    lines: list[str] = []
    process = subprocess.Popen(
        command.argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line.rstrip())
        console.print(Text(f"  [{command.tag}] {line.rstrip()}", style="dim"), soft_wrap=True)
    if code := process.wait():
        end = " | ".join(lines[-KEPT_LINES:])
        raise DemoFailed(f"{_shown(command.argv)} ended with exit code {code}: {end}")
    return lines


def kubectl(*arguments: str, show: bool = True, check: bool = True) -> str:
    """Runs kubectl as a person would, showing the command; its output."""
    if show:
        console.print(Text(f"  $ kubectl {_shown(arguments)}", style="cyan"), soft_wrap=True)
    done = subprocess.run(("kubectl", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise DemoFailed(f"kubectl {_shown(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _shown(arguments: tuple[str, ...]) -> str:
    return " ".join(Path(a).name if a == sys.executable else a for a in arguments)


def show_output(text: str) -> None:
    """A command's output, indented and neither wrapped nor cut."""
    for line in text.strip("\n").splitlines():
        console.print(Text(f"    {line}"), soft_wrap=True)


class Background:
    """One piece of work on a thread, whose error is raised again where it is waited for."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="demo")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # whatever it is, `done` raises it in the caller's thread
            self._error = error

    @property
    def done(self) -> bool:
        """Whether it has ended; raises what it raised."""
        if self._error:
            raise self._error
        return not self._thread.is_alive()
