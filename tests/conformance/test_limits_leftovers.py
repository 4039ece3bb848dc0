"""What crashes and slow workers leave of limits: places, lines and copies of what was put aside."""

from typing import Any

import pytest
from millpond import Places, PoolLimits
from millpond_api import subjects
from millpond_api.events import Aside, TaskEvent, utc_now
from millpond_api.limits import Holder, PlaceState

from tests.support.bed import START, Bed

LIMITS = PoolLimits(places=Places())


async def write(bed: Bed, task: str, *events: TaskEvent) -> None:
    """The task's log as others have left it."""
    log = subjects.task_events(bed.queue.namespace, bed.queue.pool, task)
    for event in events:
        await bed.transport.publish_stored(log, event.encode())


async def start(bed: Bed) -> list[str]:
    """A worker; the tasks that it ran."""
    ran: list[str] = []

    @bed.app.task("note")
    async def note(label: str) -> str:
        ran.append(label)
        return label

    await bed.start_worker("w1", limits=LIMITS)
    return ran


@pytest.mark.parametrize("aside", [{"key": "key:k"}, {"passes": {"key:r": 1.0}}], ids=["for a place", "for a rate"])
async def test_a_copy_of_what_was_put_aside_does_not_run_beside_what_came_back(bed: Bed, aside: dict[str, Any]) -> None:
    """Its worker was killed before the ack, the message came back, and another worker runs it by now."""
    ran = await start(bed)
    state = "Queued" if "key" in aside else "Scheduled"
    put_aside = TaskEvent(state=state, at=utc_now(), worker="w0", aside=Aside(message=1, **aside))
    await write(bed, "t", put_aside, TaskEvent(state="Running", at=utc_now(), worker="w2"))
    await bed.submit("note", "a copy", key="k", task_id="t")
    assert await bed.call("note", "another") == "another"
    await bed.is_empty()
    assert ran == ["another"]
    assert await bed.story("t") == [f"{state}(1)@w0", "Running(1)@w2"]


@pytest.mark.parametrize("waits", [False, True], ids=["for one that comes", "for one that waits in the line"])
async def test_a_place_given_to_a_task_that_has_ended_is_free(bed: Bed, waits: bool) -> None:
    """Its line was not yet cleared when it ended: whoever gave its place on then gave it to it once more."""
    await write(bed, "over", TaskEvent(state="Succeeded", at=utc_now()))
    held = PlaceState(key="k", holders=(Holder(task="over"),))
    name = subjects.limit(bed.queue.namespace, bed.queue.pool, "places", "key:k")
    await bed.transport.publish_stored(name, held.encode())
    await start(bed)
    if waits:
        await write(bed, "t", TaskEvent(state="Queued", at=utc_now(), worker="w0", aside=Aside(message=1, key="key:k")))
    task = await bed.submit("note", "t", key="k", task_id="t")
    assert await task.result(timeout=START) == "t"
    await bed.is_empty()
