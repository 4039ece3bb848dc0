"""A trace goes from the submitter into the handler and on to what the handler submits; code can ask where it runs."""

import pytest
from millpond import App, Context, current
from millpond.testing import Pool
from millpond.tracing import check_trace
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(1))
app = App()


def seen() -> list[str]:
    """What code deep within a handler sees: the task's id and trace, the current span's trace."""
    ctx = current()
    span = trace.get_current_span().get_span_context()
    return [ctx.task_id, ctx.trace, f"{span.trace_id:032x}"] if ctx else []


@app.task("look")
async def look() -> list[str]:
    return seen()


@app.task("look-plain")
def look_plain() -> list[str]:
    return seen()


@app.task("parent")
async def parent(ctx: Context, pool: str) -> list[str]:
    client = await ctx.client()
    found: list[str] = await (await client.submit(pool, "look")).result()
    return found


@pytest.mark.parametrize("handler", ["look", "look-plain"])
async def test_a_span_of_the_submitter_is_the_parent_of_the_handlers_and_not_of_the_next_ones(handler: str) -> None:
    async with Pool(app) as pool:
        with trace.use_span(NonRecordingSpan(SPAN)):
            task = await pool.submit(handler)
        assert await task.result() == [task.id, TRACE, TRACE[3:35]]
        after = await pool.submit(handler)
        assert await after.result() == [after.id, "", "0" * 32]
    assert current() is None


async def test_what_a_handler_submits_belongs_to_its_trace() -> None:
    async with Pool(app) as pool:
        task = await pool.submit("parent", pool.queue.pool, trace=TRACE)
        assert (await task.result())[1:] == [TRACE, TRACE[3:35]]


async def test_what_is_no_traceparent_is_dropped_and_fails_no_task() -> None:
    async with Pool(app) as pool:
        task = await pool.submit("look", trace="nonsense")
        assert await task.result() == [task.id, "", "0" * 32]
        given = await pool.submit("look", trace=TRACE)
        assert await given.result() == [given.id, TRACE, TRACE[3:35]]


@pytest.mark.parametrize(
    "text", ["", "00", TRACE.upper(), TRACE + "-x", TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)]
)
def test_only_a_traceparent_is_one(text: str) -> None:
    assert check_trace(text) == ""
    assert check_trace(TRACE) == TRACE
