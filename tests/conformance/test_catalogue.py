"""The pool's catalogue: announced by its workers, and what a wrong call then becomes."""

import pytest
from millpond import App, ArgumentsNotSerializable, ArgumentsRefused, Context, TaskFailed
from millpond_api import subjects

from tests.support.bed import Bed


async def known(bed: Bed, name: str) -> bool:
    return name in await bed.client.handlers("mill")


async def test_a_wrong_call_is_refused_in_the_callers_frame_with_the_signature(bed: Bed) -> None:
    @bed.app.task("resize", version="2")
    async def resize(ctx: Context, url: str, width: int = 800) -> str:
        return f"{url} {width}"

    await bed.start_worker("w1")
    await bed.until(lambda: known(bed, "resize"), "the catalogue")
    assert (await bed.client.handlers("mill"))["resize"].version == "2"
    with pytest.raises(
        ArgumentsRefused, match=r"missing a required argument: 'url'.*resize\(url: str, width: int = 800"
    ):
        await bed.submit("resize")
    with pytest.raises(ArgumentsRefused, match="unexpected keyword argument 'height'"):
        await bed.client.submit("mill", "resize", ["u"], {"height": 3})
    with pytest.raises(ArgumentsRefused, match=r"^task 2 of 2: .*'url'.*; none of them was submitted$"):
        await bed.client.submit_many("mill", "resize", [["u"], []])
    with pytest.raises(ArgumentsNotSerializable, match=r"^task 3 of 3: .*; none of them was submitted$"):
        await bed.client.submit_many("mill", "resize", [["u"], ["v"], [object()]])
    assert await bed.depth() == 0
    assert await bed.call("resize", "u", 3) == "u 3"
    task = await bed.submit("resize", check=False)
    with pytest.raises(TaskFailed, match="BadArguments"):
        await task.result(timeout=30)


async def test_what_is_not_known_is_submitted(bed: Bed) -> None:
    """No worker has ever announced anything; and then one that lacks this handler."""

    @bed.app.task("known")
    async def handler(value: int) -> int:
        return value

    first = await bed.submit("known", 1)
    second = await bed.submit("unknown", "what", "ever")
    await bed.start_worker("w1")
    assert await first.result(timeout=30) == 1
    await bed.until(lambda: known(bed, "known"), "the catalogue")
    third = await bed.submit("unknown", "what", "ever")
    for task in (second, third):
        await task.cancel()


async def test_a_handler_registered_at_run_time_is_announced_and_serves(bed: Bed) -> None:
    @bed.app.task("first")
    async def first() -> None: ...

    await bed.start_worker("w1")
    await bed.until(lambda: known(bed, "first"), "the catalogue")

    @bed.app.task("second")
    async def second(value: int) -> int:
        return value

    await bed.until(lambda: known(bed, "second"), "the new catalogue")
    assert await bed.call("second", 4) == 4
    with pytest.raises(ArgumentsRefused):
        await bed.submit("second")


async def test_of_two_versions_side_by_side_either_signature_is_accepted(bed: Bed) -> None:
    old, new = App(), App()

    @old.task("h")
    async def one(a: int) -> int:
        return a

    @new.task("h")
    async def two(a: int, b: int = 0, *, c: int = 0) -> int:
        return a

    await bed.start_worker("w1", app=old)
    await bed.until(lambda: known(bed, "h"), "the old catalogue")
    with pytest.raises(ArgumentsRefused):
        await bed.client.submit("mill", "h", [1], {"c": 2})
    await bed.start_worker("w2", app=new)

    async def accepted() -> bool:
        return len(await bed.client._catalogues.read("mill", fresh=True)) == 2

    await bed.until(accepted, "both catalogues")
    task = await bed.client.submit("mill", "h", [1], {"c": 2})
    await task.cancel()
    with pytest.raises(ArgumentsRefused):
        await bed.submit("h")


async def test_what_a_new_template_forgot_is_announced_by_the_next_worker_that_has_the_same_handlers(bed: Bed) -> None:
    """Within two minutes the server takes the second announcement for a copy of the first, which is purged."""

    @bed.app.task("grind")
    async def grind() -> None: ...

    await bed.start_worker("w1")
    await bed.until(lambda: known(bed, "grind"), "the catalogue")
    forget = {"filter": subjects.catalogue(bed.queue.namespace, bed.queue.pool)}
    await bed.transport.api(f"STREAM.PURGE.{subjects.STREAM_CATALOGUE}", forget)
    assert not await known(bed, "grind")
    await bed.start_worker("w2")
    await bed.until(lambda: known(bed, "grind"), "the catalogue again")
