"""What the stream and consumer shapes promise, as far as it shows without a server (tests/broker has the rest)."""

import pytest
from millpond_api import broker, subjects
from millpond_api.broker import NANOSECONDS, QueueConfig

SHARED = list(broker.shared_streams())


def covers(pattern: str, subject: str) -> bool:
    """Whether a NATS subject pattern matches a subject, which may hold wildcards of its own."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or (token != "*" and token != given[index]):
            return False
    return len(wanted) == len(given)


QUEUE = QueueConfig("ns", "pool", classes=("high", "default"), max_depth=7, lease=20.0)


@pytest.mark.parametrize(
    ("stream", "subject"),
    [
        (broker.events_stream(), subjects.task_events("ns", "pool", "t")),
        (broker.events_stream(), subjects.worker_events("ns", "pool", "w")),
        (broker.delayed_stream(), subjects.later("ns", "p", "t")),
        (broker.delayed_stream(), subjects.due("ns", "pool", "default")),
        (broker.dead_stream(), subjects.dead("ns", "pool", "t")),
        (broker.ledger_stream(), subjects.ledger("ns", "pool")),
        (broker.history_stream(), subjects.history("ns", "pool")),
        (broker.catalogue_stream(), subjects.catalogue("ns", "pool", "0123456789abcdef")),
        (broker.dead_stream(), subjects.dead_note("ns", "pool", "t")),
        (broker.limits_stream(), subjects.limit("ns", "pool", "rate", "any key, even with . and *")),
        (broker.parked_stream(), subjects.parked("ns", "pool", "customer-7")),
        (broker.pool_stream(QUEUE), subjects.tasks("ns", "pool", "default")),
    ],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_each_subject_is_stored_by_exactly_its_stream(stream: dict[str, object], subject: str) -> None:
    for other in (*SHARED, broker.pool_stream(QUEUE)):
        assert any(covers(p, subject) for p in other["subjects"]) == (other["name"] == stream["name"])


def test_queue_bound_is_the_servers() -> None:
    shape = broker.pool_stream(QUEUE)
    assert (shape["retention"], shape["discard"], shape["max_msgs"]) == ("workqueue", "new", 7)


def test_schedules_never_meet_discard_new() -> None:
    """The server refuses a stream with both (since 2.14.2), so the delays stand in a stream of their own."""
    assert broker.delayed_stream()["discard"] == "old"
    assert "allow_msg_schedules" not in broker.pool_stream(QUEUE)


def test_duplicate_window_never_exceeds_the_queues_age() -> None:
    """The server refuses a duplicate window longer than max_age."""
    assert broker.pool_stream(QueueConfig("ns", "p", max_age=30.0))["duplicate_window"] == 30 * NANOSECONDS
    assert broker.pool_stream(QueueConfig("ns", "p"))["duplicate_window"] == 120 * NANOSECONDS


def test_republish_and_source_keep_the_wildcard_tail() -> None:
    """The server refuses a mapping whose two sides differ in their wildcards."""
    shape = broker.pool_stream(QUEUE)
    mappings = [shape["republish"], *shape["sources"][0]["subject_transforms"], broker.events_stream()["republish"]]
    for mapping in mappings:
        assert mapping["src"].endswith(".>")
        assert mapping["dest"].endswith(".>")


def test_consumers_of_a_pool_never_overlap_and_never_give_up() -> None:
    shapes = [broker.class_consumer(QUEUE, name) for name in QUEUE.classes]
    assert len({shape["filter_subject"] for shape in shapes}) == 2
    assert all(shape["max_deliver"] == -1 for shape in shapes)
    assert all(shape["ack_wait"] == 20 * NANOSECONDS for shape in shapes)
