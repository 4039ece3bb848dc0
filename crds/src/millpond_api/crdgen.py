"""From the pydantic models to the CustomResourceDefinitions beside the sources: `python -m millpond_api.crdgen FOLDER`.

Owns the translation to structural schemas (no `$ref`, no `anyOf` with null, every field described) and what a schema
cannot say: names, printer columns and subresources. `--check` writes nothing and fails on drift. Output is YAML
written by JSON rules (sorted nowhere, stable), so that a diff of a manifest is a diff of the contract.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond_api import GROUP, VERSION
from millpond_api.v1alpha1 import PoolGroup, Supervisor, Task, Worker, WorkerPool
from millpond_api.v1alpha1.common import CEL, Model, rule
from millpond_api.yamlout import to_yaml

_DROP = {"title", "$defs", "additionalProperties_"}
_NAME_RULE = rule(
    "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= {size}",
    "metadata.name must be at most {size} lower-case letters, digits and '-' (no dots): it names queue and pods",
)


@dataclass(frozen=True)
class Kind:
    """A kind's model and what stands around its schema. Columns are (name, type, path, priority)."""

    model: type[Model]
    plural: str
    short: str
    description: str
    columns: tuple[tuple[str, str, str, int], ...]
    name_size: int = 253
    scale: bool = False
    rules: tuple[dict[str, Any], ...] = ()
    """Rules over the whole object: only there is its name to be seen."""


KINDS = (
    Kind(
        model=WorkerPool,
        plural="workerpools",
        short="wp",
        description="A pool of workers that follows the lag of its queue.",
        name_size=40,
        scale=True,
        columns=(
            ("Min", "integer", ".spec.scaling.minWorkers", 0),
            ("Max", "integer", ".spec.scaling.maxWorkers", 0),
            ("Desired", "integer", ".status.desired", 0),
            ("Ready", "integer", ".status.readyReplicas", 0),
            ("Busy", "integer", ".status.workers.busy", 0),
            ("Lag", "integer", ".status.lag", 0),
            ("Mode", "string", ".status.mode", 0),
            ("Rollout", "string", ".status.rollout.phase", 0),
            ("Status", "string", ".status.conditions[?(@.type=='Ready')].reason", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Slots", "integer", ".spec.concurrency", 1),
            ("Image", "string", ".spec.image", 1),
            ("Last Decision", "string", ".status.decisions[0].message", 1),
        ),
    ),
    Kind(
        model=Task,
        plural="tasks",
        short="mt",
        description="One unit of work for a pool.",
        columns=(
            ("Pool", "string", ".spec.pool", 0),
            ("Handler", "string", ".spec.handler", 0),
            ("Phase", "string", ".status.phase", 0),
            ("Attempts", "integer", ".status.attempts", 0),
            ("Duration", "string", ".status.duration", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Worker", "string", ".status.worker", 1),
            ("Reason", "string", ".status.reason", 1),
            ("Message", "string", ".status.message", 1),
        ),
    ),
    Kind(
        model=Worker,
        plural="workers",
        short="mw",
        description="One worker of a pool, written by the operator.",
        columns=(
            ("Pool", "string", ".spec.pool", 0),
            ("State", "string", ".status.state", 0),
            ("Slots", "integer", ".status.slots", 0),
            ("In Flight", "integer", ".status.inFlight", 0),
            ("Done", "integer", ".status.succeeded", 0),
            ("Restarts", "integer", ".status.restarts", 0),
            ("Reason", "string", ".status.reason", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Remote", "boolean", ".spec.remote", 1),
            ("Node", "string", ".status.node", 1),
            ("Owner", "string", ".status.running[*].owner", 1),
            ("Since", "date", ".status.since", 1),
            ("Message", "string", ".status.message", 1),
        ),
    ),
    Kind(
        model=PoolGroup,
        plural="poolgroups",
        short="wpg",
        description="A ceiling that several pools of a namespace share.",
        columns=(
            ("Max", "integer", ".spec.maxWorkers", 0),
            ("Workers", "integer", ".status.workers", 0),
            ("Desired", "integer", ".status.desired", 0),
            ("Pools", "integer", ".status.pools", 0),
            ("Limited", "string", ".status.conditions[?(@.type=='Limited')].status", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Message", "string", ".status.conditions[?(@.type=='Limited')].message", 1),
        ),
    ),
    Kind(
        model=Supervisor,
        plural="supervisors",
        short="msup",
        description="OTP's supervisor over worker pools and other supervisors of the namespace.",
        name_size=40,
        rules=(
            rule(
                "self.spec.children.all(c, !has(c.supervisor) || c.supervisor != self.metadata.name)",
                "a supervisor can't be its own child: name another one in children",
            ),
        ),
        columns=(
            ("Strategy", "string", ".spec.strategy", 0),
            ("Children", "string", ".status.childrenRunning", 0),
            ("Restarts", "integer", ".status.restarts", 0),
            ("State", "string", ".status.state", 0),
            ("Reason", "string", ".status.reason", 0),
            ("Age", "date", ".metadata.creationTimestamp", 0),
            ("Intensity", "integer", ".spec.intensity", 1),
            ("Period", "string", ".spec.period", 1),
            ("Parent", "string", ".status.parent", 1),
            ("Message", "string", ".status.conditions[?(@.type=='Ready')].message", 1),
        ),
    ),
)


def _inline(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """`schema` with references and nullable unions resolved; what stands beside a reference wins over it."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].rsplit("/", 1)[1]]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _inline({**target, **beside}, definitions)
    if "anyOf" in schema:
        (only,) = [option for option in schema["anyOf"] if option.get("type") != "null"]
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return _inline({**only, **beside}, definitions)
    return schema


def structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A structural schema (Kubernetes' subset of OpenAPI v3) of a pydantic JSON schema."""
    schema = _inline(schema, definitions)
    result = {key: value for key, value in schema.items() if key not in _DROP}
    if result.pop("exclusiveMinimum", None) is not None:
        result["minimum"] = schema["exclusiveMinimum"]
        result["exclusiveMinimum"] = True
    if "properties" in result:
        result["properties"] = {name: structural(sub, definitions) for name, sub in result["properties"].items()}
    if isinstance(result.get("items"), dict):
        result["items"] = structural(result["items"], definitions)
    if result.get("additionalProperties") is True or "properties" in result:
        result.pop("additionalProperties", None)
    elif isinstance(result.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(result["additionalProperties"], definitions)
    # An optional object keeps its null until `_defaults` has seen that it must stay absent.
    if result.get("default", ...) is None and "properties" not in result:
        result.pop("default")
    return result


def _defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """Objects without a required field default to {}, so that the API server fills their fields in (kubectl shows what
    is in force, and CEL rules may read every field). An optional one stays absent: a Task's own `retry`, filled in,
    would override the pool's."""
    absent = "default" in schema and schema["default"] is None
    for name, sub in schema.get("properties", {}).items():
        schema["properties"][name] = _defaults(sub)
    if "properties" in schema and not schema.get("required") and "default" not in schema:
        schema["default"] = {}
    if absent:
        schema.pop("default")
    return schema


def openapi(kind: Kind) -> dict[str, Any]:
    """The kind's whole validation schema."""
    raw = kind.model.model_json_schema(by_alias=True, mode="validation")
    schema = structural(raw, raw.get("$defs", {}))
    spec = _defaults(schema["properties"]["spec"])
    status = schema["properties"]["status"]
    status["description"] = "What the operator observed; written by it alone."
    _strip_defaults(status)
    status.pop("required", None)
    root: dict[str, Any] = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Always millpond.dev/v1alpha1."},
            "kind": {"type": "string", "description": f"Always {kind.model.__name__}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }
    named = {key: text.replace("{size}", str(kind.name_size)) for key, text in _NAME_RULE.items()}
    if found := [*([named] if kind.name_size < 253 else []), *kind.rules]:
        root[CEL] = found
    return root


def _strip_defaults(schema: dict[str, Any]) -> None:
    """A status says only what was observed: no defaults are filled in."""
    schema.pop("default", None)
    for sub in schema.get("properties", {}).values():
        _strip_defaults(sub)
    if isinstance(schema.get("items"), dict):
        _strip_defaults(schema["items"])


def definition(kind: Kind) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    name = kind.model.__name__
    columns = [
        {"name": title, "type": kind_of, "jsonPath": path, "priority": priority}
        for title, kind_of, path, priority in kind.columns
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": [kind.short],
                "categories": ["millpond"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": openapi(kind)},
                }
            ],
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Write (or with --check compare) one file per kind into every folder named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    drift = []
    for kind in KINDS:
        text = "# Generated by `make generate` from crds/src/millpond_api: do not edit.\n" + to_yaml(definition(kind))
        for folder in options.folders:
            path = folder / f"{GROUP}_{kind.plural}.yaml"
            if options.check:
                if not path.exists() or path.read_text() != text:
                    drift.append(str(path))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
    if drift:
        print(f"out of date: {', '.join(drift)}; run `make generate` and commit", file=sys.stderr)
    return 1 if drift else 0


if __name__ == "__main__":
    sys.exit(main())
