"""KEDA's triggers: nats-jetstream becomes the target, cron becomes schedules, the rest is named. Pure.

KEDA asks for ceil(lag / lagThreshold) pods, where lag counts waiting and in flight alike (nats_jetstream_scaler.go,
getMaxMsgLag). Millpond gives what is in flight one slot each and lets lagPerSlot tasks wait for each slot, so a pod's
threshold is divided by its slots. Of several triggers the HPA takes the highest number; so do target and schedules.
"""

from typing import Any

from millpond_scaling.keda.notes import Choice, ImportRefused, Object, Reader

LAG_THRESHOLD = 10
"""KEDA's default of lagThreshold (natsJetStreamMetadata)."""

QUEUE = (
    "Millpond makes the pool's queue itself: submit tasks with the SDK or as Task objects instead of publishing to "
    "this stream, and let the old workers finish what is in it"
)
INSTEAD = {
    "cpu": "Millpond scales on work, not on CPU: concurrency says how many tasks a worker can bear, "
    "target.utilization how many of its slots should be busy",
    "memory": "Millpond scales on work, not on memory: set resources and concurrency so that a full worker fits",
    "prometheus": "there is no metric target: lag, arrival rate and service time are measured by Millpond itself "
    "(target.latency)",
    "kafka": "let a small bridge consume the topic and submit tasks to the pool",
    "rabbitmq": "let a small bridge consume the queue and submit tasks to the pool",
}
OTHER = "no equivalent: let what makes this work submit tasks to the pool, then its lag is what is scaled on"


def convert_triggers(triggers: list[Any], path: str, notes: list[Any], choice: Choice) -> Object:
    """`target`, `activationLag` and `schedules` of scaling."""
    made: Object = {"schedules": []}
    for index, data in enumerate(triggers):
        trigger = Reader(data, f"{path}[{index}]", notes)
        kind, name = str(trigger.take("type", "")), str(trigger.take("name", ""))
        metadata = Reader(trigger.take("metadata"), f"{trigger.path}.metadata", notes)
        _common(trigger, kind)
        if kind == "nats-jetstream" and "target" not in made:
            made |= _jetstream(metadata, choice)
        elif kind == "nats-jetstream":
            text = (
                "a pool has one queue: give this stream's work a pool of its own, or a priority class (queue.classes)"
            )
            metadata.note("stream", text)
            continue
        elif kind == "cron":
            made["schedules"].append(_cron(metadata, name or f"cron-{index}"))
        else:
            trigger.note("type", f"{kind or 'missing'}: {INSTEAD.get(kind, OTHER)}")
            continue
        metadata.end()
        trigger.end()
    if not made["schedules"]:
        del made["schedules"]
    return made


def _common(trigger: Reader, kind: str) -> None:
    if trigger.take("authenticationRef") is not None:
        trigger.note(
            "authenticationRef", "not needed: the operator alone reads the queue, with its own NATS credentials"
        )
    metric = trigger.take("metricType", "AverageValue")
    if metric != "AverageValue" and kind in ("nats-jetstream", "cron"):
        text = (
            f"{metric} multiplies the pods that run by lag over threshold; converted as AverageValue (lag for each pod)"
        )
        trigger.note("metricType", text)
    if trigger.take("useCachedMetrics") is not None:
        trigger.note("useCachedMetrics", "not needed: each tick reads all queues once, and decides on what it has read")


def _jetstream(metadata: Reader, choice: Choice) -> Object:
    threshold = metadata.integer("lagThreshold", LAG_THRESHOLD)
    activation = metadata.integer("activationLagThreshold", 0)
    for name in ("stream", "consumer", "account", "accountID", "natsServerMonitoringEndpoint", "useHttps"):
        if (value := metadata.take(name)) is not None and name in ("stream", "natsServerMonitoringEndpoint"):
            metadata.note(
                name, QUEUE if name == "stream" else f"{value}: not asked; the chart's nats.url says which NATS"
            )
    if not threshold or threshold < 1:
        raise ImportRefused(f"{metadata.path}.lagThreshold is {threshold}: it must be at least 1")
    if threshold > 1:
        text = (
            f"lagThreshold {threshold} counts running tasks like waiting ones; Millpond gives each running task its "
            "slot, so a pool whose workers are all busy stays larger than KEDA's (and no busy worker is stopped)"
        )
        metadata.note("lagThreshold", text)
    per_slot = threshold / choice.concurrency
    made: Object = {"target": {"lagPerSlot": int(per_slot) if per_slot.is_integer() else per_slot}}
    return made | ({"activationLag": activation} if activation else {})


def _cron(metadata: Reader, name: str) -> Object:
    made: Object = {
        "name": name[:63],
        "start": _expression(metadata, "start"),
        "end": _expression(metadata, "end"),
        "timeZone": metadata.take("timezone", "UTC"),
        "minWorkers": metadata.integer("desiredReplicas", 0),
    }
    return made


def _expression(metadata: Reader, name: str) -> str:
    """Five fields; `?`, which KEDA's parser takes for any, is written as `*`."""
    fields = str(metadata.take(name, "")).split()
    if len(fields) != 5:
        raise ImportRefused(f"{metadata.path}.{name} is no cron expression of five fields")
    return " ".join("*" if one == "?" else one for one in fields)
