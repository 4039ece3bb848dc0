"""The catalogue: what is announced of a handler, and that a call is refused exactly when Python would refuse it."""

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond import App, Context, RetryPolicy
from millpond.registry import Registry, make_handler
from millpond.worker.crier import make_card, make_catalogue
from millpond_api.catalogue import CURRENT_FOR, Catalogue, HandlerCard, check_call, choose_current, find_refusal

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def resize(ctx: Context, url: str, width: int = 800, *, crop: bool = False) -> str:
    return f"{ctx}{url}{width}{crop}"


def two(a: int, b: int, /) -> None: ...


def anything(*args: Any, **kwargs: Any) -> None: ...


def keyed(a: int, *rest: int, b: int, **more: int) -> None: ...


def test_a_card_says_what_a_submitter_needs_and_leaves_out_the_context() -> None:
    card = make_card(make_handler("resize", resize, retry=RetryPolicy(max_attempts=2), version="3"))
    assert card.text == "resize(url: str, width: int = 800, *, crop: bool = False)"
    assert card.version == "3"
    assert card.options["retry"]["max_attempts"] == 2
    assert set(card.options) == {"retry"}
    catalogue = Catalogue(at=NOW, handlers=(card,))
    assert Catalogue.decode(catalogue.encode()) == catalogue


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        (["u"], {}, ""),
        (["u", 3], {"crop": True}, ""),
        ([], {"url": "u"}, ""),
        ([], {}, "missing a required argument: 'url'"),
        (["u", 3, True], {}, "too many positional arguments"),
        (["u"], {"colour": 1}, "unexpected keyword argument 'colour'"),
        (["u"], {"url": "v"}, "multiple values for argument 'url'"),
    ],
)
def test_a_wrong_call_is_refused_with_the_signature(args: list[Any], kwargs: dict[str, Any], says: str) -> None:
    catalogue = Catalogue(at=NOW, handlers=(make_card(make_handler("resize", resize)),))
    found = find_refusal([catalogue], "resize", (args, kwargs))
    assert says in found
    assert bool(found) == bool(says)
    if says:
        assert "resize(url: str, width: int = 800, *, crop: bool = False)" in found


@given(
    function=st.sampled_from([two, anything, keyed, inspect.cleandoc]),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from(["a", "b", "c", "doc"]), st.integers()),
)
def test_a_call_is_refused_exactly_when_python_refuses_it(
    function: Callable[..., Any], args: list[int], kwargs: dict[str, int]
) -> None:
    card = HandlerCard.decode(make_card(make_handler("h", function)).encode())
    try:
        inspect.signature(function).bind(*args, **kwargs)
        refused = False
    except TypeError:
        refused = True
    assert bool(check_call(card, args, kwargs)) == refused


def test_of_two_versions_side_by_side_either_may_take_the_call() -> None:
    old = Catalogue(at=NOW, handlers=(make_card(make_handler("h", two)),))
    new = Catalogue(at=NOW + timedelta(minutes=5), handlers=(make_card(make_handler("h", keyed)),))
    both = choose_current([old, new])
    assert both == [new, old]
    assert not find_refusal(both, "h", ([1, 2], {}))
    assert not find_refusal(both, "h", ([1], {"b": 2}))
    assert find_refusal(both, "h", ([], {}))
    assert not find_refusal(both, "unknown", ([], {}))
    later = new.model_copy(update={"at": NOW + CURRENT_FOR + timedelta(minutes=1)})
    assert choose_current([old, later]) == [later]
    assert choose_current([]) == []


def test_the_same_handlers_are_one_catalogue_whoever_announces_them() -> None:
    first, second = Registry(), Registry()
    for registry, order in ((first, [two, keyed]), (second, [keyed, two])):
        for function in order:
            registry.add(make_handler(function.__name__, function))
    one, other = make_catalogue(first, "w1"), make_catalogue(second, "w2")
    assert one.digest == other.digest
    second.add(make_handler("more", anything))
    assert make_catalogue(second, "w2").digest != one.digest


def test_a_registration_at_run_time_is_heard() -> None:
    app, heard = App(), []
    app.handlers.listeners.append(lambda: heard.append(app.handlers.names()))
    app.task("late")(two)
    assert heard == [["late"]]
