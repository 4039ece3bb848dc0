"""What the kinds share: field types that carry their schema rules, conditions, and how a rule is written.

A rule is CEL in the schema, so that the API server itself refuses bad input with a sentence. Python reads the same
models, but validates only types: what the API server stored has passed the rules.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from millpond_api import quantities
from millpond_api.durations import parse_duration

CEL = "x-kubernetes-validations"
PRESERVE = "x-kubernetes-preserve-unknown-fields"

_DURATION_CEL = r"self.matches('^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$')"
_MEMORY_CEL = f"self.matches('{quantities.PATTERN}')"


def rule(expression: str, message: str, reason: str = "FieldValueInvalid") -> Any:
    """One CEL validation (plain JSON): an expression that must be true, and the sentence when it is not."""
    return {"rule": expression, "message": message, "reason": reason}


Duration = Annotated[
    str,
    Field(
        max_length=32,
        json_schema_extra={
            CEL: [rule(_DURATION_CEL, "must be a duration: a number and a unit, such as 500ms, 30s, 5m or 1h30m")]
        },
    ),
]
"""Text such as `30s`; `seconds()` reads it."""


def at_least(least: str) -> Any:
    """The rule of a duration that may not be shorter."""
    return rule(f"duration(self) >= duration('{least}')", f"must be at least {least}")


Memory = Annotated[
    str,
    Field(
        max_length=32,
        json_schema_extra={
            CEL: [rule(_MEMORY_CEL, "must be an amount of memory: a whole number and a unit, such as 512Mi or 2Gi")]
        },
    ),
]
"""Text such as `512Mi`; `quantities.parse_bytes` reads it."""


def seconds(duration: str) -> float:
    """Seconds of a validated duration field."""
    return parse_duration(duration)


Timestamp = Annotated[
    datetime,
    BeforeValidator(lambda value: value),
    PlainSerializer(lambda value: value.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), return_type=str, when_used="json"),
    Field(json_schema_extra={"type": "string", "format": "date-time"}),
]


class Model(BaseModel):
    """camelCase in manifests, snake_case in Python; unknown fields are ignored (a newer schema may have them)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    def to_manifest(self) -> dict[str, Any]:
        """Plain JSON data under the manifest's names, without nulls."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return data


class Condition(Model):
    """A Kubernetes condition (metav1.Condition): `kubectl wait --for=condition=Type` reads it."""

    type: str = Field(description="Name of the condition.")
    status: str = Field(description="True, False or Unknown.", json_schema_extra={"enum": ["True", "False", "Unknown"]})
    reason: str = Field(default="", description="One word that says why.")
    message: str = Field(default="", description="One sentence for people.")
    last_transition_time: Timestamp | None = Field(default=None, description="When the status last changed.")
    observed_generation: int | None = Field(default=None, description="The spec's generation that it speaks of.")
