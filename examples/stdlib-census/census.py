"""A census of the Python standard library: a task lists its files, one task a file parses it, one folds the results.

Owns three handlers and a McCabe counter. Files that Python cannot parse end as Failed with the parser's own reason (the
library's test data holds some on purpose). Nothing here knows Kubernetes: it is an ordinary Millpond app.
"""

import ast
import asyncio
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from millpond import App, Context, NonRetryable

app = App()

LIBRARY = Path(sysconfig.get_path("stdlib"))
NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
TOTALS = ("lines", "functions", "classes", "complexity")
TOP_OF_FILE, TOP_OF_REPORT = 3, 10
READERS = 32
"""Logs that the report reads at once: enough to hide the round trip to NATS."""

Figures = dict[str, Any]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)


class Unparsable(NonRetryable):
    """The file is no Python of this version. Trying again would not change that."""


@app.task("census.files")
def list_files() -> list[str]:
    """Every source file of the standard library, as paths below it."""
    return sorted(path.relative_to(LIBRARY).as_posix() for path in find_sources(LIBRARY))


def find_sources(root: Path) -> Iterator[Path]:
    """The .py files below `root`, without what others installed there (Debian links its sitecustomize.py to /etc)."""
    real = root.resolve()
    for path in root.rglob("*.py"):
        foreign = NOT_LIBRARY.intersection(path.relative_to(root).parts) or not path.resolve().is_relative_to(real)
        if path.is_file() and not foreign:
            yield path


@app.task("census.parse")
def parse_file(path: str) -> Figures:
    """The figures of one file: lines, functions, classes, complexity and its three most complex functions."""
    return measure(path, read_source(LIBRARY, path))


def read_source(root: Path, path: str) -> str:
    """The text in the encoding that the file itself declares."""
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise Unparsable(f"{path} lies outside the standard library: give a path from census.files")
    try:
        with tokenize.open(file) as source:
            return source.read()
    except OSError as error:
        raise Unparsable(f"{path}: {error.strerror}") from error
    except (SyntaxError, UnicodeDecodeError) as error:
        raise Unparsable(explain(path, error)) from error


def measure(path: str, source: str) -> Figures:
    """The figures of a source text; Unparsable when it is not Python."""
    try:
        tree = ast.parse(source, filename=path)
    # ValueError: a null byte. RecursionError, MemoryError: deeper nesting than the parser's stack.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unparsable(explain(path, error)) from error
    functions, classes = count_definitions(tree)
    functions.sort(key=lambda f: (-f["complexity"], f["line"]))
    return {
        "path": path,
        "lines": source.count("\n") + (not source.endswith("\n") and bool(source)),
        "functions": len(functions),
        "classes": classes,
        "complexity": sum(f["complexity"] for f in functions),
        "top": functions[:TOP_OF_FILE],
    }


def explain(path: str, error: BaseException) -> str:
    """`lib2to3/tests/data/py2_test_grammar.py:31: SyntaxError: invalid decimal literal`"""
    line = getattr(error, "lineno", None)
    text = getattr(error, "msg", None) or str(error)
    return f"{path}{f':{line}' if line else ''}: {type(error).__name__}: {text}"


def count_definitions(tree: ast.AST) -> tuple[list[Figures], int]:
    """Name, line and cyclomatic complexity of every function, nested ones on their own; and the number of classes.

    Complexity is McCabe's: one, plus one for each branch (if, loop, except, case, conditional expression), for each
    `for` and `if` of a comprehension and for each further operand of `and`/`or`. An explicit stack instead of
    recursion: the library holds expressions that nest deeper than Python's recursion limit.
    """
    functions: list[Figures] = []
    classes = 0
    todo: list[tuple[ast.AST, str, Figures | None]] = [(tree, "", None)]
    while todo:
        node, scope, function = todo.pop()
        if isinstance(node, DEFINITIONS):
            scope = f"{scope}.{node.name}" if scope else node.name
            function = None
            if isinstance(node, ast.ClassDef):
                classes += 1
            else:
                function = {"name": scope, "line": node.lineno, "complexity": 1}
                functions.append(function)
        elif function is not None:
            function["complexity"] += branches(node)
        todo.extend((child, scope, function) for child in ast.iter_child_nodes(node))
    return functions, classes


def branches(node: ast.AST) -> int:
    """How many ways a node adds to the one straight through."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


@app.task("census.report")
async def report(ctx: Context, pool: str, tasks: list[str]) -> Figures:
    """Totals and the ten most complex functions, from the results that `tasks` (ids) left in their logs."""
    client = await ctx.client()
    gate = asyncio.Semaphore(READERS)
    done = 0

    async def read(task: str) -> tuple[Figures | None, str]:
        nonlocal done
        async with gate:
            events = await client.handle(pool, task).events()
        done += 1
        ctx.progress(100 * done / len(tasks), f"{done} of {len(tasks)} results read")
        last = events[-1] if events else None
        if last and last.state == "Succeeded":
            return last.result, ""
        return None, (last.error.message if last and last.error else "") or (last.state if last else "Queued")

    return fold(await asyncio.gather(*(read(task) for task in tasks)))


def fold(outcomes: list[tuple[Figures | None, str]]) -> Figures:
    """The report of (figures, "") for files that were parsed and (None, why) for the others."""
    parsed = [figures for figures, _ in outcomes if figures]
    failed = [why for figures, why in outcomes if figures is None]
    functions = [{**function, "path": figures["path"]} for figures in parsed for function in figures["top"]]
    kinds = Counter(kind_of_failure(why) for why in failed)
    return {
        "files": len(outcomes),
        "parsed": len(parsed),
        "failed": len(failed),
        "failedBecause": dict(kinds.most_common()),
        **{
            total: sum(figures[total] for figures in parsed)
            for total in ("lines", "functions", "classes", "complexity")
        },
        "mostComplex": sorted(functions, key=lambda f: (-f["complexity"], f["path"], f["line"]))[:TOP_OF_REPORT],
    }


def kind_of_failure(why: str) -> str:
    """`SyntaxError` of "path:line: SyntaxError: text"; the text itself where no error is named."""
    return next((part for part in why.split(": ") if part.endswith("Error")), why)
