"""Retry delays: bounded, growing, exact for a given jitter; and durations as people write them."""

import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from millpond_api.durations import format_duration, parse_duration
from millpond_api.retry import BackoffKind, RetryPolicy, error_names, is_retried, may_retry, retry_delay

seconds = st.floats(0, 1e6)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    kind=st.sampled_from(["fixed", "linear", "exponential", "quartic"]),
    initial=seconds,
    factor=st.floats(1, 1e6),
    maximum=seconds,
    jitter=st.floats(0, 1),
)
fractions = st.floats(0, 1)


@given(policies, st.integers(1, 1000), fractions)
@example(RetryPolicy(initial=1.0, factor=1e300, maximum=5.0), 1000, 0.0)
def test_delay_stays_between_nothing_and_the_maximum(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    assert 0.0 <= retry_delay(policy, attempt, jitter) <= policy.maximum


@given(policies, st.integers(1, 999), fractions)
@example(RetryPolicy(initial=0.0, factor=1e300, maximum=5.0), 2, 0.0)
def test_delay_never_shrinks_with_the_attempts(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    assert retry_delay(policy, attempt, jitter) <= retry_delay(policy, attempt + 1, jitter)


@given(policies, st.integers(1, 1000), fractions)
def test_jitter_only_shortens_and_by_no_more_than_its_share(policy: RetryPolicy, attempt: int, jitter: float) -> None:
    full, spread = retry_delay(policy, attempt, 0.0), retry_delay(policy, attempt, jitter)
    assert spread <= full
    assert spread >= full * (1 - policy.jitter) or math.isclose(spread, full * (1 - policy.jitter), abs_tol=1e-9)


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1.0), (2, 2.0), (3, 4.0), (9, 256.0), (10, 300.0), (500, 300.0)])
def test_default_policy_doubles_up_to_five_minutes(attempt: int, delay: float) -> None:
    assert retry_delay(RetryPolicy(), attempt, 0.0) == delay


@pytest.mark.parametrize(
    ("kind", "delays"),
    [
        ("fixed", [2.0, 2.0, 2.0, 2.0]),
        ("linear", [2.0, 4.0, 6.0, 8.0]),
        ("exponential", [2.0, 6.0, 18.0, 54.0]),
        ("quartic", [2.0, 32.0, 162.0, 512.0]),
    ],
)
def test_each_kind_grows_as_it_says(kind: BackoffKind, delays: list[float]) -> None:
    policy = RetryPolicy(kind=kind, initial=2.0, factor=3.0, maximum=1e9)
    assert [retry_delay(policy, attempt, 0.0) for attempt in (1, 2, 3, 4)] == delays


class Unlucky(ConnectionError):
    """An error of a user's module."""


def test_errors_are_named_by_class_or_text_and_their_subclasses_count() -> None:
    policy = RetryPolicy(retry_on=(OSError, "requests.exceptions.Timeout"), give_up_on=Unlucky)
    assert policy.retry_on == ("OSError", "requests.exceptions.Timeout")
    assert policy.give_up_on == (f"{__name__}.Unlucky",)
    assert RetryPolicy.decode(policy.encode()) == policy
    assert is_retried(policy, error_names(ConnectionResetError))
    assert not is_retried(policy, error_names(ValueError))
    assert not is_retried(policy, error_names(Unlucky))
    assert not is_retried(RetryPolicy(give_up_on=("Unlucky",)), error_names(Unlucky))
    assert is_retried(RetryPolicy(give_up_on=(KeyError,)), error_names(IndexError))


def test_a_policy_of_an_older_side_is_exponential_and_retries_everything() -> None:
    old = RetryPolicy.decode(b'{"max_attempts":2,"initial":1,"factor":2,"maximum":300,"jitter":0.2}')
    assert old == RetryPolicy(max_attempts=2)
    assert is_retried(old, ("AnyError",))


@given(policies, st.integers(1, 1100))
def test_no_attempt_follows_the_last(policy: RetryPolicy, attempt: int) -> None:
    assert may_retry(policy, attempt) == (attempt < policy.max_attempts)


@pytest.mark.parametrize(
    ("text", "value"), [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("0s", 0.0)]
)
def test_durations_read_as_people_write_them(text: str, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "30", "s", "1d", "-5s", "5 s", "1h-30m", "30s\n", "infinity"], ids=repr)
def test_bad_duration_is_refused_with_the_form_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="write a number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize(("value", "text"), [(0.8, "0.8s"), (3, "3s"), (45, "45s"), (125, "2m5s"), (11400, "3h10m")])
def test_durations_are_shown_short(value: float, text: str) -> None:
    assert format_duration(value) == text


@given(st.floats(0, 1e6))
def test_shown_duration_is_a_duration(value: float) -> None:
    assert math.isclose(parse_duration(format_duration(value)), value, rel_tol=0.02, abs_tol=0.51)


def test_a_misspelt_field_is_refused_in_a_program_and_ignored_in_a_message() -> None:
    with pytest.raises(TypeError, match=r"RetryPolicy has no 'max_atempts': it knows max_attempts, kind"):
        RetryPolicy(max_atempts=9)  # type: ignore[call-arg]
    newer = b'{"max_attempts":9,"of_next_year":1}'
    assert RetryPolicy.decode(newer) == RetryPolicy(max_attempts=9)
    assert RetryPolicy.model_validate({"max_attempts": 9, "of_next_year": 1}).max_attempts == 9
    policy = RetryPolicy(max_attempts=9)
    assert pickle.loads(pickle.dumps(policy)) == policy == policy.model_copy()
