"""A codec of an installed distribution: found by its entry point, and waited for where it is not installed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from millpond import codecs
from millpond.errors import CodecMissing

from tests.support.eventually import eventually
from tests.support.workers import START, Mill

MODULE = """
import json

def encode(value):
    return json.dumps(value).upper().encode()

def decode(body):
    return json.loads(body.decode().lower())
"""


def forget() -> None:
    """What this process knows of installed codecs, as if it had just started."""
    for cache in (codecs._entries, codecs._find, codecs.has_codec):
        cache.cache_clear()


@pytest.fixture
def shouting(tmp_path: Path) -> Iterator[Path]:
    """A distribution with the codec `shout`, installed in a folder of its own."""
    folder = tmp_path / "installed"
    info = folder / "shouting-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "shouting.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[millpond.codecs]\nshout = shouting\n")
    forget()
    yield folder
    forget()


async def test_task_in_a_codec_that_no_worker_has_is_held_until_one_comes(
    mill: Mill, shouting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = await mill.start("without")
    with pytest.raises(CodecMissing, match=r"'shout'.*millpond\.codecs"):
        await mill.client.submit(mill.queue.pool, "echo", ["a"], codec="shout")
    monkeypatch.syspath_prepend(str(shouting))
    forget()
    task = await mill.client.submit(mill.queue.pool, "echo", ["a"], codec="shout")

    async def named() -> bool:
        return (await mill.next_beat("without")).missing == {"codec:shout": 1}

    await eventually(named, START, "the missing codec in the heartbeat")
    assert await mill.story(task.id) == []
    without.kill()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(shouting), os.environ.get("PYTHONPATH", "")]))
    await mill.start("with")
    assert await task.result(timeout=START) == "a"
    assert await mill.story(task.id) == ["Running(1)@with", "Succeeded(1)@with"]
    [*_, end] = await task.events()
    assert end.parcel is not None
    assert end.parcel.codec == "shout"
