"""The WorkerPool of a ScaledObject: bounds, pauses and the worker, and what KEDA does that Millpond does not. Pure.

Owns the order of the manifest and the sentences about the fields of `spec` and the annotations. What the pool's
container is comes from the Deployment that is scaled, when it lies beside the ScaledObject; the App is never guessed.
"""

from typing import Any

from millpond_api import API_VERSION

from millpond_scaling.keda.behavior import convert_behavior
from millpond_scaling.keda.notes import Choice, Conversion, ImportRefused, Note, Object, Reader
from millpond_scaling.keda.triggers import convert_triggers

MIN_REPLICAS, MAX_REPLICAS, COOLDOWN = 0, 100, 300
"""KEDA's defaults: minReplicaCount, maxReplicaCount (scaledobject_types.go), cooldownPeriod (scale_executor.go)."""
PREFIX = "autoscaling.keda.sh/"
UNSET_IMAGE, UNSET_APP = "registry.example/worker:1", "app:app"


def convert(scaled: Object, deployment: Object | None = None, choice: Choice | None = None) -> Conversion:
    """The WorkerPool for `scaled`; `deployment` is what it scales, if at hand. ImportRefused when it cannot be."""
    choice = choice or Choice()
    kind = scaled.get("kind")
    if kind != "ScaledObject":
        raise ImportRefused(
            f"this is a {kind or 'document without kind'}, not a ScaledObject"
            + (
                ": a WorkerPool takes its place, whose workers end their task before they go"
                if kind == "ScaledJob"
                else ""
            )
        )
    notes: list[Note] = []
    metadata = scaled.get("metadata") or {}
    spec = Reader(scaled.get("spec"), "spec", notes)
    target = Reader(spec.take("scaleTargetRef"), "spec.scaleTargetRef", notes)
    made = _worker(target, deployment, choice)
    scaling = _bounds(spec, choice)
    scaling |= convert_triggers(spec.take("triggers", []), "spec.triggers", notes, choice)
    scaling |= _advanced(spec, choice)
    if "target" not in scaling:
        spec.note("triggers", "there is no nats-jetstream trigger: the pool scales on its own queue with lagPerSlot 1")
    _fallback(spec)
    pause, held = _annotations(metadata, notes)
    spec.end()
    body = made | ({"replicas": held} if held is not None else {}) | {"scaling": scaling | pause}
    names = {key: metadata[key] for key in ("name", "namespace") if metadata.get(key)}
    return Conversion({"apiVersion": API_VERSION, "kind": "WorkerPool", "metadata": names, "spec": body}, notes)


def _worker(target: Reader, deployment: Object | None, choice: Choice) -> Object:
    """Image, app and what the Deployment says of its container."""
    kind, name = target.take("kind", "Deployment"), target.take("name", "")
    target.take("apiVersion")
    if kind != "Deployment":
        target.note("kind", f"{kind}: Millpond makes Deployments only; write its pod as spec.template")
    container_name = target.take("envSourceContainerName")
    target.end()
    template = ((deployment or {}).get("spec") or {}).get("template") or {}
    pod = template.get("spec") or {}
    containers: list[Object] = pod.get("containers") or [{}]
    container = next((c for c in containers if c.get("name") == container_name), containers[0])
    image = choice.image or container.get("image") or ""
    if not image:
        where = f"{kind} {name}".strip()
        target.note("", f"the image of {where} is not at hand: give --image, or put the Deployment into the same file")
    if not choice.app:
        target.note("", "the worker must hold an App with your handlers (FROM millpond-worker): name it with --app")
    made: Object = {"image": image or UNSET_IMAGE, "app": choice.app or UNSET_APP}
    if choice.concurrency != 1:
        made["concurrency"] = choice.concurrency
    made |= {key: container[key] for key in ("env", "resources") if container.get(key)}
    made |= {key: pod[key] for key in ("imagePullSecrets",) if pod.get(key)}
    if pod.get("terminationGracePeriodSeconds"):
        made["shutdown"] = {"gracePeriod": f"{pod['terminationGracePeriodSeconds']}s"}
    if len(containers) > 1 or any(pod.get(key) for key in ("volumes", "nodeSelector", "tolerations", "affinity")):
        target.note("", "the Deployment has volumes, placement or side containers: copy them into spec.template")
    return made


def _bounds(spec: Reader, choice: Choice) -> Object:
    low, high = spec.integer("minReplicaCount", MIN_REPLICAS), spec.integer("maxReplicaCount", MAX_REPLICAS)
    idle = spec.integer("idleReplicaCount")
    assert low is not None
    assert high is not None
    if low > high:
        raise ImportRefused(f"spec.minReplicaCount {low} is greater than maxReplicaCount {high}")
    if idle is not None:
        text = f"an idle pool keeps {idle}, as here; with work KEDA jumps to at least {low}, Millpond to what is needed"
        spec.note("idleReplicaCount", f"{text}: set warmWorkers to have more at once")
        low = idle
    made: Object = {"minWorkers": low, "maxWorkers": high}
    cooldown = spec.integer("cooldownPeriod", COOLDOWN if choice.defaults else None)
    if cooldown is not None:
        made["idleAfter"] = f"{cooldown}s"
    polling = spec.integer("pollingInterval")
    if polling is not None:
        text = f"{polling} s: not needed, a task wakes its pool by push, and every queue is read each second besides"
        spec.note("pollingInterval", text)
    if spec.integer("initialCooldownPeriod"):
        spec.note(
            "initialCooldownPeriod", "a new pool starts at minWorkers: schedule a floor for its first hours, if needed"
        )
    return made


def _advanced(spec: Reader, choice: Choice) -> Object:
    advanced = Reader(spec.take("advanced"), "spec.advanced", spec.notes)
    config = Reader(
        advanced.take("horizontalPodAutoscalerConfig"), "spec.advanced.horizontalPodAutoscalerConfig", spec.notes
    )
    if config.take("name") is not None:
        config.note("name", "there is no HorizontalPodAutoscaler: the WorkerPool itself is what scales")
    made = convert_behavior(config, choice.defaults)
    config.end()
    if advanced.take("restoreToOriginalReplicaCount"):
        advanced.note("restoreToOriginalReplicaCount", "deleting a pool drains its workers; nothing is left to restore")
    modifiers = Reader(advanced.take("scalingModifiers"), "spec.advanced.scalingModifiers", spec.notes)
    formula = modifiers.take("formula")
    if formula:
        text = "no equivalent: of several targets and schedules the highest number wins, as without a formula"
        modifiers.note("formula", f"{formula!r}: {text}")
    for name in ("target", "activationTarget", "metricType"):
        if modifiers.take(name) is not None:
            modifiers.note(name, "belongs to the formula: use target.lagPerSlot and activationLag")
    modifiers.end()
    advanced.end()
    return made


def _fallback(spec: Reader) -> None:
    fallback = spec.take("fallback")
    if not fallback:
        return
    behavior = fallback.get("behavior", "static")
    if behavior == "currentReplicas":
        spec.note(
            "fallback",
            "not needed: when NATS does not answer, the number of workers is held, and the condition says so",
        )
    else:
        text = f"{behavior} with {fallback.get('replicas')} replicas: no equivalent; without NATS the number is held"
        spec.note("fallback", f"{text}. Use minWorkers for a floor that always holds")


def _annotations(metadata: Object, notes: list[Note]) -> tuple[Object, int | None]:
    """(`pause` of scaling, `replicas`) from KEDA's annotations."""
    known = Reader(
        {k.removeprefix(PREFIX): v for k, v in (metadata.get("annotations") or {}).items() if k.startswith(PREFIX)},
        "metadata.annotations",
        notes,
    )
    held = known.integer("paused-replicas")
    flags = {name: _true(known.take(name)) for name in ("paused", "paused-scale-in", "paused-scale-out")}
    if _true(known.take("force-activation")):
        known.note(PREFIX + "force-activation", "set minWorkers: 1 for as long as the pool must not rest")
    known.end()
    down, up = flags["paused-scale-in"], flags["paused-scale-out"]
    if flags["paused"] or (down and up):
        return {"pause": "All"}, held
    return ({"pause": "Down"} if down else {"pause": "Up"} if up else {}), held


def _true(value: Any) -> bool:
    """KEDA's getBoolAnnotation: what is no Boolean counts as true."""
    return value is not None and str(value) not in ("0", "f", "F", "false", "False", "FALSE")
