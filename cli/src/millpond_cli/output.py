"""The terminal: results to stdout, progress and remarks to stderr, tables that also read well in a pipe.

Owns the two consoles. A table on a terminal is fitted to its width; in a pipe it is plain columns of full width, so
that `millpond get tasks | grep Failed` loses nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from millpond_cli.rows import STYLES, Row

PIPE_WIDTH = 400
"""Columns of a table in a pipe: wider than any row, so that nothing is cut or wrapped."""


def stdout() -> Console:
    """Made anew each time, so that it writes to whatever stdout is now."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def make_table(columns: Iterable[str], rows: Iterable[Row]) -> Table:
    """A borderless table; the state's cell is coloured, and only the last column may be cut."""
    names = tuple(columns)
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        # rich shrinks columns that may wrap before any other; its cells then cut their text instead of wrapping it.
        table.add_column(name, no_wrap=name != names[-1])
    for row in rows:
        styles = (STYLES.get(cell, "") if cell == row.state else "" for cell in row.cells)
        cells = zip(row.cells, styles, strict=True)
        table.add_row(*(Text(cell, style, no_wrap=True, overflow="ellipsis") for cell, style in cells))
    return table


def print_table(columns: Iterable[str], rows: list[Row]) -> None:
    """The table on stdout; a pipe gets no blanks at the ends of lines."""
    console, table = stdout(), make_table(columns, rows)
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_json(value: Any) -> None:
    """Indented JSON, as bytes would be piped into jq."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def say(text: str) -> None:
    """A remark that is no result."""
    stderr().print(Text(text), soft_wrap=True)


class Counter(Protocol):
    """Tells how far something is."""

    def __call__(self, done: int) -> None: ...


LINE_STEPS, FEW = 10, 100
"""Progress lines of a long step where there is no terminal; fewer than 100 things need none."""


@contextmanager
def counting(what: str, total: int) -> Iterator[Counter]:
    """A progress bar on a terminal; else a line at every tenth."""
    console = stderr()
    if not console.is_terminal:
        yield _lines(what, total) if total >= FEW else lambda done: None
        return
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def _lines(what: str, total: int) -> Counter:
    step = total // LINE_STEPS
    last = 0

    def tell(done: int) -> None:
        nonlocal last
        if done >= last + step or (done == total and done > last):
            last = done
            say(f"{what}: {done} of {total}")

    return tell
