"""Registration refuses what could not run, at import and with a sentence."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from millpond import App, Context, RetryPolicy
from millpond.registry import make_handler


def plain(value: int) -> int:
    return value


async def quick(value: int) -> int:
    return value


def named(ctx: Any, value: int) -> int:
    return value


def annotated(attempt: Context, value: int) -> int:
    return value


def late(value: int, ctx: Context) -> int:
    return value


def late_by_text(value: int, ctx: "millpond.Context | None" = None) -> int:  # type: ignore[name-defined]  # noqa: F821
    return value


def late_keyword(value: int, *, ctx: Context) -> int:
    return value


def by_text(attempt: "Context", value: int) -> int:
    return value


def later(value: int, ctx: Any = None) -> int:
    return value


def keyword(*, ctx: Any = None) -> None:
    return None


@pytest.mark.parametrize(
    ("function", "is_async", "wants_context"),
    [
        (plain, False, False),
        (quick, True, False),
        (named, False, True),
        (annotated, False, True),
        (by_text, False, True),
        (later, False, False),
        (keyword, False, False),
    ],
)
def test_how_a_handler_is_called_follows_from_its_signature(
    function: Callable[..., Any], is_async: bool, wants_context: bool
) -> None:
    handler = make_handler("h", function)
    assert (handler.is_async, handler.wants_context) == (is_async, wants_context)


def test_a_decorated_function_stays_itself() -> None:
    app = App()
    assert app.task("plain", retry=RetryPolicy(max_attempts=1))(plain) is plain
    assert app.handlers.names() == ["plain"]


def test_a_second_handler_of_a_name_is_refused_and_both_are_named() -> None:
    app = App()
    app.task("one")(plain)
    with pytest.raises(ValueError, match=r"plain.*quick"):
        app.task("one")(quick)


async def stream() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("bad name", plain, {}), "handler name"),
        (("h", stream, {}), "generator"),
        (("h", plain, {"isolation": "inline"}), "hold up every async handler"),
        (("h", quick, {"isolation": "vm"}), "none of inline, thread, process"),
        (("h", quick, {"soft_timeout": -1}), "soft_timeout must be more than 0"),
        (("h", quick, {"timeout": 0}), "more than 0"),
        (("h", late, {}), "ctx.* is not its first parameter.*put it first"),
        (("h", late_by_text, {}), "ctx.* is not its first parameter.*put it first"),
        (("h", late_keyword, {}), "ctx.* is not its first parameter.*put it first"),
    ],
)
def test_what_cannot_run_is_refused_with_a_sentence(arguments: tuple[str, Any, dict[str, Any]], problem: str) -> None:
    name, function, options = arguments
    with pytest.raises((ValueError, TypeError), match=problem):
        make_handler(name, function, **options)


def test_a_bare_decorator_is_refused_because_the_name_is_missing() -> None:
    with pytest.raises(TypeError, match=r"@app\.task\(\"name\"\)"):
        App().task(plain)  # type: ignore[arg-type]


def test_progress_is_short_text_however_it_is_given() -> None:
    context = Context("t")
    context.progress(12.5, "parsed")
    assert context._control.progress == "12.5% parsed"
    context.progress("x" * 1000)
    assert len(context._control.progress) == 200
