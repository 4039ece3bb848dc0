"""When a failed attempt is tried again: exponential backoff with a cap and jitter, pure.

Jitter is an argument (0.0 to 1.0), so that tests and replays are exact. The delay is spread over
[delay × (1 − jitter), delay]: never longer than the cap. Source of the need for jitter: M. Brooker, "Exponential
Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from pydantic import Field

from millpond_api.wire import Wire


class RetryPolicy(Wire):
    """At most `max_attempts` attempts; after attempt n a delay of initial × factor^(n−1), at most `maximum` seconds."""

    max_attempts: int = Field(default=4, ge=1, le=1000)
    initial: float = Field(default=1.0, ge=0.0)
    factor: float = Field(default=2.0, ge=1.0)
    maximum: float = Field(default=300.0, ge=0.0)
    jitter: float = Field(default=0.2, ge=0.0, le=1.0)


def retry_delay(policy: RetryPolicy, attempt: int, jitter: float) -> float:
    """Seconds to wait after failed `attempt` (from 1); `jitter` in [0, 1] picks the place within the spread."""
    # 2^1000 overflows no float, but factor may be large: cap the exponent where the result passes any sane maximum.
    try:
        full = policy.initial * policy.factor ** (attempt - 1)
    except OverflowError:
        full = policy.maximum
    full = min(full, policy.maximum)
    return full * (1.0 - policy.jitter * jitter)


def may_retry(policy: RetryPolicy, attempt: int) -> bool:
    """Whether another attempt follows a retryable failure of `attempt`."""
    return attempt < policy.max_attempts
