"""When a failed attempt is tried again, and after how long: four kinds of backoff with a cap and jitter, pure.

Owns the policy as it travels (envelope, MILLPOND_RETRY) and its arithmetic. It reads no clock and draws no dice: jitter
is an argument (0.0 to 1.0), so that tests and replays are exact. The delay is spread over [delay × (1 − jitter),
delay]: never longer than the cap. Sources: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015,
for the need of jitter; River's `DefaultClientRetryPolicy` (riverqueue.com/docs/job-retries) for attempt⁴.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from millpond_api.wire import Spelled

BackoffKind = Literal["fixed", "linear", "exponential", "quartic"]


def error_name(kind: type[BaseException]) -> str:
    """The name that a policy matches an exception's class by: `ValueError`, `requests.exceptions.Timeout`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def error_names(kind: type[BaseException]) -> tuple[str, ...]:
    """Every name that a policy may call an exception of this class by: its bases count, with and without module."""
    classes = [one for one in kind.__mro__ if issubclass(one, BaseException)]
    return tuple(dict.fromkeys(name for one in classes for name in (one.__name__, error_name(one))))


def _read_names(value: Any) -> Any:
    """Classes as their names; one alone counts as a list of one."""
    given = value if isinstance(value, Iterable) and not isinstance(value, str | type) else (value,)
    return tuple(error_name(one) if isinstance(one, type) and issubclass(one, BaseException) else one for one in given)


ErrorNames = Annotated[tuple[str, ...], BeforeValidator(_read_names)]
"""Exception classes by name; in Python the classes themselves may be given."""


class RetryPolicy(Spelled):
    """At most `max_attempts` attempts; after failed attempt n a delay of at most `maximum` seconds, of this `kind`:

    `fixed` initial · `linear` initial × n · `exponential` initial × factor^(n−1) · `quartic` initial × n⁴.
    `retry_on`: only these exceptions (and their subclasses) are tried again. `give_up_on`: these never are, it comes
    first. Both empty: everything but NonRetryable is tried again.
    """

    max_attempts: int = Field(default=4, ge=1, le=1000)
    kind: BackoffKind = "exponential"
    initial: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    factor: float = Field(default=2.0, ge=1.0, allow_inf_nan=False)
    maximum: float = Field(default=300.0, ge=0.0, allow_inf_nan=False)
    jitter: float = Field(default=0.2, ge=0.0, le=1.0)
    retry_on: ErrorNames = ()
    give_up_on: ErrorNames = ()

    @property
    def selects(self) -> bool:
        """Whether it says anything about kinds of errors."""
        return bool(self.retry_on or self.give_up_on)


def retry_delay(policy: RetryPolicy, attempt: int, jitter: float) -> float:
    """Seconds to wait after failed `attempt` (from 1); `jitter` in [0, 1] picks the place within the spread."""
    full = min(_full_delay(policy, attempt), policy.maximum)
    return full * (1.0 - policy.jitter * jitter)


def _full_delay(policy: RetryPolicy, attempt: int) -> float:
    match policy.kind:
        case "fixed":
            return policy.initial
        case "linear":
            return policy.initial * attempt
        case "quartic":
            return policy.initial * float(attempt) ** 4
        case "exponential":
            # 2^1000 overflows no float, but factor may be large.
            try:
                return policy.initial * policy.factor ** (attempt - 1)
            except OverflowError:
                return policy.maximum


def may_retry(policy: RetryPolicy, attempt: int) -> bool:
    """Whether another attempt follows a retryable failure of `attempt`."""
    return attempt < policy.max_attempts


def is_retried(policy: RetryPolicy, names: Iterable[str]) -> bool:
    """Whether the policy has an error of these `names` (see `error_names`) tried again at all."""
    found = set(names)
    if found.intersection(policy.give_up_on):
        return False
    return not policy.retry_on or bool(found.intersection(policy.retry_on))
