"""The images: what was locked is what they hold, and nothing that a Dockerfile copies is kept out of its context."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from millpond_cluster.build.context import IgnoreRules, copy_sources

from scripts.images import IMAGES, ROOT, Image
from scripts.requirements import find_direct, find_needed, find_pins

OURS = {"millpond", "millpond-api", "millpond-operator", "millpond-cli", "millpond-cluster"}

every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())


def read(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


@every_image
def test_nothing_that_is_copied_is_ignored(image: Image) -> None:
    rules = IgnoreRules.read(ROOT / image.context)
    sources = copy_sources((ROOT / image.file).read_text())
    missing = [source for source in sources if rules.ignores(source) or not (ROOT / image.context / source).exists()]
    assert missing == []


@every_image
def test_no_image_runs_as_root(image: Image) -> None:
    """An image without a USER of its own has that of its base, so only a base of ours may leave it out."""
    last_stage = (ROOT / image.file).read_text().rpartition("\nFROM ")[2]
    assert "\nUSER 65532" in last_stage or image.base is not None


def test_context_leaves_tests_secrets_and_caches_out() -> None:
    rules = IgnoreRules.read(ROOT)
    for path in (
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        ".env",
        "crds/src/millpond_api/__pycache__/a.pyc",
    ):
        assert rules.ignores(path), path


def test_operator_image_pins_everything_it_needs() -> None:
    lock = read("uv.lock")
    direct = find_direct(
        lock, [read("crds/pyproject.toml"), read("worker_image/pyproject.toml"), read("operator/pyproject.toml")]
    )
    needed = find_needed(lock, direct)
    assert {"kopf", "aiohttp", "pydantic-core", "uvloop"} <= needed
    assert needed <= find_pins(lock).keys()
    assert not needed & (OURS | {"pytest", "ruff", "mypy", "hypothesis"})


def test_package_locked_twice_is_left_to_pip() -> None:
    def entry(name: str, version: str, **source: str) -> dict[str, Any]:
        return {"name": name, "version": version, "source": source}

    lock = {
        "package": [entry("a", "1", registry="r"), entry("B.x", "1", registry="r"), entry("B.x", "2", registry="r")]
    }
    assert find_pins(lock) == {"a": "1"}
    assert find_pins({"package": [entry("ours", "1", editable="ours")]}) == {}


def test_requirements_need_nothing_but_the_standard_library() -> None:
    """It runs in an image's build stage, before anything is installed."""
    words: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        ROOT / "scripts/requirements.py",
        ROOT / "uv.lock",
        ROOT / "operator/pyproject.toml",
    ]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(line.startswith("kopf==") for line in printed)
    assert all("==" in line for line in printed)
