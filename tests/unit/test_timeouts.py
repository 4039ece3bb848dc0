"""How long an attempt may run and where: the task's word, else the handler's, else the pool's."""

import pytest
from millpond.registry import Handler
from millpond.settings import Settings
from millpond.timeouts import Limits, choose_isolation, choose_limits
from millpond_api.envelope import Envelope
from millpond_api.events import utc_now
from millpond_api.quantities import parse_bytes

POOL = {"nats_url": "nats://n", "namespace": "ns", "pool": "p", "app": "a:b"}


def handler(**options: object) -> Handler:
    return Handler("h", print, **{"is_async": False, "wants_context": False, **options})  # type: ignore[arg-type]


def envelope(**options: object) -> Envelope:
    return Envelope(id="t", handler="h", enqueued=utc_now(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("task", "own", "pool", "limits"),
    [
        ({}, {}, {}, Limits()),
        ({}, {}, {"timeout": 9, "soft_timeout": 5}, Limits(5, 9)),
        ({}, {"timeout": 7}, {"timeout": 9, "soft_timeout": 5}, Limits(5, 7)),
        ({"timeout": 6, "soft_timeout": 1}, {"timeout": 7}, {"timeout": 9, "soft_timeout": 5}, Limits(1, 6)),
        ({"timeout": 4}, {}, {"soft_timeout": 5}, Limits(None, 4)),
        ({"soft_timeout": 8}, {}, {}, Limits(8, None)),
    ],
)
def test_the_nearest_word_on_time_counts_and_a_soft_limit_behind_the_hard_one_is_none(
    task: dict[str, float], own: dict[str, float], pool: dict[str, float], limits: Limits
) -> None:
    assert choose_limits(envelope(**task), handler(**own), Settings.model_validate(POOL | pool)) == limits


@pytest.mark.parametrize(
    ("own", "is_async", "pool", "place"),
    [
        (None, True, "", "inline"),
        (None, False, "", "thread"),
        (None, True, "thread", "thread"),
        (None, False, "inline", "thread"),
        (None, False, "process", "process"),
        ("process", True, "inline", "process"),
        ("thread", True, "process", "thread"),
        ("inline", True, "process", "inline"),
    ],
)
def test_a_handlers_own_isolation_comes_before_the_pools_and_no_plain_function_is_inline(
    own: str | None, is_async: bool, pool: str, place: str
) -> None:
    assert choose_isolation(handler(isolation=own, is_async=is_async), pool) == place


@pytest.mark.parametrize(("text", "size"), [("512Mi", 512 << 20), ("2Gi", 2 << 30), ("500M", 500_000_000), ("7", 7)])
def test_amounts_of_memory_are_kubernetes_own(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "Mi", "1.5Gi", "1Kb", "-1"])
def test_what_is_no_amount_of_memory_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="such as 512Mi"):
        parse_bytes(text)
