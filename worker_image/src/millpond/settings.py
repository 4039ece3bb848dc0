"""What a worker process is told by its environment, checked once at start.

Owns names, defaults and meaning of the MILLPOND_ variables. A wrong one ends the process with one sentence that names
the variable (`SettingsError`), because a worker that guesses would look healthy and do nothing.
"""

import json
import socket
from typing import Annotated, Any, Literal

import pydantic
from millpond_api.events import INLINE_RESULT, MAX_INLINE_RESULT, RESULT_TTL
from millpond_api.limits import PoolLimits
from millpond_api.retry import RetryPolicy
from millpond_api.shares import class_weights
from millpond_api.subjects import check_token
from millpond_api.supervision.pod import INTENSITY, PERIOD, TERMINATION_LOG
from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError as UnreadableSettings

PREFIX = "MILLPOND_"


class SettingsError(Exception):
    """The environment does not describe a worker; the text names the variable."""


def default_name() -> str:
    """A worker's name where none was given: its host's (in a pod, the pod's)."""
    return socket.gethostname().replace(".", "-")


class ResultSettings(pydantic.BaseModel):
    """What becomes of results (`spec.results` of the pool)."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    ttl: float = Field(default=RESULT_TTL, ge=1)
    """Seconds that a result in the object store is kept."""
    inline_max: int = Field(default=INLINE_RESULT, ge=0, le=MAX_INLINE_RESULT)
    """Bytes that a result may have in its event; a larger one goes to the object store."""
    codecs: tuple[str, ...] = ()
    """The only codecs that are taken; empty: all that are installed."""
    pickle: bool = False


class LeaseTerms(pydantic.BaseModel):
    """How long a client holds a slot (`spec.leases` of the pool). Seconds."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    ttl: float = Field(default=10.0, gt=0)
    """Without a word of its owner for so long, a lease ends."""
    max_duration: float | None = Field(default=None, gt=0)


class Settings(BaseSettings):
    """One worker. Seconds everywhere."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    nats_url: str
    namespace: str
    pool: str
    app: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    concurrency: int = Field(default=1, ge=1, le=10_000)
    worker: str = Field(default_factory=default_name)
    classes: Annotated[tuple[str, ...], NoDecode] = ("default",)
    """In priority order."""
    weights: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Of classes, as JSON. The operator writes all of them; what is missing has `class_weights`' default."""
    priority: Literal["Weighted", "Strict"] = "Weighted"
    """Weighted: each class has its share of the starts. Strict: a class waits until those before it are empty."""
    retry: RetryPolicy = Field(default_factory=RetryPolicy)
    lease: float = Field(default=15.0, gt=0)
    """The ack wait of the pool's consumers: a message of a worker that is silent for so long goes to another one."""
    poison_limit: int = Field(default=3, ge=1)
    grace: float = Field(default=25.0, ge=0)
    """How long running tasks may go on after SIGTERM; a little less than the pod's own grace period."""
    http_port: int = Field(default=8080, ge=0, le=65535)
    """Of /healthz and /readyz; 0 turns them off."""
    beat: float = Field(default=1.0, gt=0)
    results: ResultSettings = Field(default_factory=ResultSettings)
    leases: LeaseTerms = Field(default_factory=LeaseTerms)
    """Of slots that clients check out; as JSON. (`lease` is the worker's own hold on a message.)"""
    isolation: Literal["", "inline", "thread", "process"] = ""
    """Where handlers run that do not say so themselves; empty: async ones inline, plain ones on a thread."""
    soft_timeout: float | None = Field(default=None, gt=0)
    timeout: float | None = Field(default=None, gt=0)
    process_memory: int = Field(default=0, ge=0)
    """Bytes that a handler's process may take beyond what the app itself takes; 0: no limit."""
    process_tasks: int = Field(default=0, ge=0)
    """A handler's process is replaced after so many tasks; 0: never."""
    process_recycle_memory: int = Field(default=0, ge=0)
    """A handler's process that is larger than this after a task is replaced; 0: never."""
    letter_ttl: float = Field(default=0.0, ge=0)
    """Seconds that a dead letter is kept; 0: as long as MILLPOND_DEAD keeps any."""
    limits: PoolLimits = Field(default_factory=PoolLimits)
    """Rates and places of the whole pool, shared by all its workers; as JSON."""
    lost_slots: int = Field(default=3, ge=1)
    """A worker that had to abandon so many threads drains and ends, to start afresh: each still takes memory."""

    remote: str = Field(default="", max_length=253)
    """The host of a worker outside the cluster; empty in a pod. Nobody starts a remote one again but itself."""
    restart_intensity: int = Field(default=INTENSITY, ge=0)
    restart_period: int = Field(default=PERIOD, ge=1)
    """More than `intensity` crashes of the worker's child processes within `period` seconds end the worker."""
    termination_log: str = TERMINATION_LOG

    fair_lanes: int = Field(default=0, ge=0)
    """Lanes of each class, for fairness between keys; 0: tasks have none (those that got one earlier are found)."""

    @property
    def shares(self) -> dict[str, int]:
        """The weight of each class, in priority order."""
        return class_weights(self.classes, self.weights)

    @field_validator("classes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip()) or ("default",)

    @field_validator("namespace", "pool", "worker")
    @classmethod
    def _token(cls, value: str, info: pydantic.ValidationInfo) -> str:
        return check_token(value, info.field_name or "name")

    @field_validator("classes")
    @classmethod
    def _tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_token(name, "class") for name in value)


def read_settings() -> Settings:
    """The settings of this process; SettingsError with one sentence for each wrong variable."""
    try:
        return Settings()
    except pydantic.ValidationError as error:
        raise SettingsError("; ".join(_sentence(problem) for problem in error.errors())) from None
    except UnreadableSettings as error:
        raise SettingsError(
            f"{error}: {PREFIX}RETRY and {PREFIX}WEIGHTS are JSON, such as {json.dumps({'max_attempts': 4})}"
        ) from None


def _sentence(problem: Any) -> str:
    variable = PREFIX + str(problem["loc"][0]).upper()
    if problem["type"] == "missing":
        return f"{variable} is not set"
    if problem["type"] == "string_pattern_mismatch":
        return f"{variable}={problem['input']!r} must be module:app, such as handlers:app"
    inner = "".join(f".{part}" for part in problem["loc"][1:])
    return f"{variable}{inner}={problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
