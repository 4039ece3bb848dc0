"""The example's census on source texts: figures are exact, and what is not Python fails with the parser's reason."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "stdlib-census"


def load(name: str) -> ModuleType:
    """A module of the example, which is no package: its folder is what goes into the image."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


census = load("census")

BRANCHY = """
class Outer:
    def method(self, a, b):
        if a and b or a:
            return [x for x in a if x if b]
        for _ in a:
            while b:
                try:
                    pass
                except ValueError:
                    pass
        def inner():
            return 1 if a else 2
        match a:
            case 1: pass
            case _: pass
        return lambda: a or b

async def flat():
    async for _ in x: pass
"""


def test_complexity_counts_each_branch_once_and_nested_functions_on_their_own() -> None:
    figures = census.measure("x.py", BRANCHY)
    top = {function["name"]: function["complexity"] for function in figures["top"]}
    # method: 1, if, and, or, comprehension, its two ifs, for, while, except, two cases, or in the lambda.
    assert top == {"Outer.method": 13, "Outer.method.inner": 2, "flat": 2}
    assert (figures["functions"], figures["classes"], figures["complexity"]) == (3, 1, 17)
    assert figures["lines"] == len(BRANCHY.splitlines())


@pytest.mark.parametrize(("source", "lines"), [("", 0), ("a = 1", 1), ("a = 1\n", 1), ("\n\n", 2)])
def test_lines_are_those_of_an_editor(source: str, lines: int) -> None:
    assert census.measure("x.py", source)["lines"] == lines


def test_nesting_beyond_the_recursion_limit_is_still_counted() -> None:
    tree: ast.expr = ast.IfExp(ast.Name("a"), ast.Name("b"), ast.Name("c"))
    for _ in range(2 * sys.getrecursionlimit()):
        tree = ast.UnaryOp(ast.Not(), tree)
    function = ast.parse("def f(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [ast.Expr(tree)]
    assert census.count_definitions(function) == ([{"name": "f", "line": 1, "complexity": 2}], 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"print 'two'\n", r"x\.py:1: SyntaxError: "),
        (b"a = 1\n\xff\n", "UnicodeDecodeError|SyntaxError"),
        (b"# -*- coding: uft-8 -*-\n", "SyntaxError: unknown encoding"),
        (b"a = 1\0\n", "SyntaxError|ValueError"),
    ],
    ids=["Python 2", "not UTF-8", "unknown encoding", "null byte"],
)
def test_file_that_is_no_python_fails_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "x.py").write_bytes(content)
    with pytest.raises(census.Unparsable, match=reason):
        census.measure("x.py", census.read_source(tmp_path, "x.py"))


def test_declared_encoding_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes("# -*- coding: latin-1 -*-\na = 'ä'\n".encode("latin-1"))
    assert "ä" in census.read_source(tmp_path, "x.py")


@pytest.mark.parametrize("path", ["../secret.py", "/etc/passwd", "missing.py"])
def test_path_outside_the_library_or_missing_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path.parent / "secret.py").write_text("x = 1\n")
    with pytest.raises(census.Unparsable):
        census.read_source(tmp_path, path)


def test_what_others_installed_is_not_the_library(tmp_path: Path) -> None:
    for path in ("ast.py", "json/tool.py", "site-packages/other.py", "x/dist-packages/y.py", "note.txt"):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    (tmp_path / "sitecustomize.py").symlink_to(Path(__file__))
    found = {path.relative_to(tmp_path).as_posix() for path in census.find_sources(tmp_path)}
    assert found == {"ast.py", "json/tool.py"}


def test_report_adds_up_and_tells_why_files_failed() -> None:
    parsed = [census.measure(f"{n}.py", f"def f{n}():\n" + "    if x: pass\n" * n) for n in (1, 20, 3)]
    outcomes = [*((figures, "") for figures in parsed), (None, "a.py:3: SyntaxError: bad"), (None, "Queued")]
    report = census.fold(outcomes)
    assert (report["files"], report["parsed"], report["failed"]) == (5, 3, 2)
    assert report["lines"] == sum(figures["lines"] for figures in parsed)
    assert report["failedBecause"] == {"SyntaxError": 1, "Queued": 1}
    assert [(f["name"], f["path"]) for f in report["mostComplex"]] == [("f20", "20.py"), ("f3", "3.py"), ("f1", "1.py")]


def test_every_file_of_this_interpreters_library_is_parsed_or_refused() -> None:
    files = census.list_files()
    assert len(files) > 100
    assert files == sorted(set(files))

    def outcome(path: str) -> str:
        try:
            return str(census.parse_file(path)["path"])
        except census.Unparsable as error:
            return str(error)

    chosen = files[::40]
    assert [path for path in chosen if not outcome(path).startswith(path)] == []
