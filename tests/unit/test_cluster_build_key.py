"""An image is built again exactly when something that it takes has changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from millpond_cluster.build.context import BuildRequest, IgnoreRules, copy_sources, make_build_key

DOCKERFILE = """ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE} AS build
COPY --chown=1:1 lib \\
     app.py /app/
COPY --from=build /x /y
"""


@pytest.fixture
def request_of(tmp_path: Path) -> BuildRequest:
    (tmp_path / "lib" / "deep").mkdir(parents=True)
    (tmp_path / "lib" / "deep" / "a.py").write_text("a")
    (tmp_path / "app.py").write_text("app")
    (tmp_path / "README.md").write_text("not copied")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return BuildRequest(tag="localhost/x:dev", dockerfile=tmp_path / "Dockerfile", context=tmp_path, args={"A": "1"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DOCKERFILE, ["lib", "app.py"]),
        ("COPY . /src", ["."]),
        ('COPY ["with space", "/x"]', ["with space"]),
        ("ARG d=lib\nCOPY $d /x", ["."]),
        ("ADD root.tar /", ["root.tar"]),
        ("RUN cp a b", []),
    ],
    ids=["flags-and-continuation", "whole-context", "json-form", "variable-means-everything", "add", "no-copy"],
)
def test_sources_of_copy_lines(text: str, expected: list[str]) -> None:
    assert copy_sources(text) == expected


def test_a_file_that_no_copy_names_costs_no_rebuild(request_of: BuildRequest) -> None:
    before = make_build_key(request_of, "base")
    (request_of.context / "README.md").write_text("changed")
    (request_of.context / "lib" / "__pycache__").mkdir()
    (request_of.context / "lib" / "__pycache__" / "a.pyc").write_text("cache")
    assert make_build_key(request_of, "base") == before


@pytest.mark.parametrize("change", ["content", "mode", "new-file", "dockerfile", "argument", "base"])
def test_whatever_the_image_takes_changes_the_key(request_of: BuildRequest, change: str) -> None:
    before = make_build_key(request_of, "base")
    base, changed = "base", request_of
    match change:
        case "content":
            (request_of.context / "lib" / "deep" / "a.py").write_text("b")
        case "mode":
            (request_of.context / "app.py").chmod(0o755)
        case "new-file":
            (request_of.context / "lib" / "b.py").write_text("")
        case "dockerfile":
            request_of.dockerfile.write_text(DOCKERFILE + "USER 1\n")
        case "argument":
            changed = BuildRequest(request_of.tag, request_of.dockerfile, request_of.context, {"A": "2"})
        case "base":
            base = "another base"
    assert make_build_key(changed, base) != before


def test_ignored_files_are_not_part_of_the_key(request_of: BuildRequest) -> None:
    (request_of.context / ".dockerignore").write_text("lib/deep\n")
    before = make_build_key(request_of, "base")
    (request_of.context / "lib" / "deep" / "a.py").write_text("b")
    assert make_build_key(request_of, "base") == before


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        (["docs"], "docs/a/b.md", True),
        (["docs"], "other/docs", False),
        (["**/docs"], "other/docs/a", True),
        (["*.md"], "a/b.md", False),
        (["**/*.md", "!README.md"], "README.md", False),
        (["**/*.md", "!README.md"], "x/README.md", True),
        (["a?c"], "abc", True),
        ([], "x/.venv/bin/python", True),
    ],
)
def test_ignore_rules_follow_docker(patterns: list[str], path: str, ignored: bool) -> None:
    assert IgnoreRules(patterns).ignores(path) is ignored
