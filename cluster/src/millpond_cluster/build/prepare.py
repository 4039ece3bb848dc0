"""Everything a profile needs before a process can start: programs, packages, images, made side by side.

Owns which profile needs what. Go programs share the cores, so they are built one family after the other; packages and
base images wait for the network and dpkg, so they go on meanwhile. It must not start or know a running cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from millpond_cluster.build import golang
from millpond_cluster.build.base_images import BASE_IMAGE, ensure_base_image, ensure_nats_image, ensure_pause_image
from millpond_cluster.build.builder import BuildahBuilder
from millpond_cluster.build.debian import NODE_PACKAGES, ensure_packages, find_program
from millpond_cluster.report import Reporter

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Prepared:
    """Paths of programs by name, and the images that a node is to begin with."""

    programs: dict[str, Path]
    images: tuple[str, ...] = ()


def prepare_control_plane(reporter: Reporter, fake_nodes: bool) -> Prepared:
    wanted = (*golang.CONTROL_PLANE, *golang.FAKE_NODES) if fake_nodes else golang.CONTROL_PLANE
    return Prepared(golang.ensure_programs(wanted, reporter))


def prepare_node(reporter: Reporter, pause_image: str) -> Prepared:
    builder = BuildahBuilder()

    def make_images() -> tuple[str, ...]:
        ensure_packages(NODE_PACKAGES, reporter)
        pause = golang.ensure_programs([golang.Wanted(golang.PAUSE, ("pause",))], reporter)["pause"]
        ensure_base_image(builder, reporter)
        ensure_pause_image(builder, pause, pause_image, reporter)
        return (pause_image, ensure_nats_image(builder, reporter), BASE_IMAGE)

    programs, images = run_side_by_side(
        lambda: golang.ensure_programs((*golang.CONTROL_PLANE, *golang.NODE), reporter),
        make_images,
    )
    return Prepared({**programs, "containerd": Path(find_program("containerd") or "containerd")}, images)


def run_side_by_side(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """Both in threads; the first failure is raised when both have ended."""
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(first), pool.submit(second)
        return one.result(), two.result()
