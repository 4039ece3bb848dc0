"""The pytest plugin that comes with the SDK: `millpond_pool`, a pool that serves the fixture `millpond_app`.

    @pytest.fixture
    def millpond_app() -> App:
        return app

    async def test_resize(millpond_pool: Pool) -> None:
        assert await millpond_pool.call("resize", "cat.png") == "cat-800.png"

It owns nothing else. It works with pytest-asyncio in either mode, and with anyio's plugin on asyncio.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    async_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from millpond.app import App
    from millpond.testing import Pool


@pytest.fixture
def millpond_app() -> "App":
    """The app under test: define a fixture of this name that returns yours."""
    raise pytest.UsageError(
        "millpond_pool needs your app: define a fixture `millpond_app` that returns it, "
        "or write `async with millpond.testing.Pool(app) as pool`"
    )


@pytest.fixture
def millpond_settings() -> dict[str, Any]:
    """Keywords for `millpond.testing.Pool`, such as {"workers": 2, "concurrency": 8}."""
    return {}


@async_fixture
async def millpond_pool(millpond_app: "App", millpond_settings: dict[str, Any]) -> "AsyncIterator[Pool]":
    """A running pool with one worker, in virtual time."""
    # Imported here: most test sessions of an environment that has the SDK don't use it.
    from millpond.testing import Pool

    async with Pool(millpond_app, **millpond_settings) as pool:
        yield pool
