"""A recorded decision comes back to the bit, across versions, and is made again identically."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_scaling import Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, Decision, RatePolicy, Schedule
from millpond_scaling.records import Record, RecordError, again, compare, decode, encode
from millpond_scaling.simulate.chance import Chance

PLAIN, EMPTY = Policy(), Memory()

numbers = st.floats(allow_nan=False) | st.integers(-(10**18), 10**18)
records = st.builds(
    Record,
    at=st.text(),
    now=numbers,
    policy=st.from_type(Policy),
    seen=st.from_type(Observation),
    memory=st.from_type(Memory),
    decision=st.builds(
        Decision, inputs=st.dictionaries(st.text(), numbers | st.text(), max_size=5), memory=st.from_type(Memory)
    ),
    acted=st.booleans(),
)


def recorded(seen: Observation, policy: Policy = PLAIN, memory: Memory = EMPTY, now: float = 7.25) -> Record:
    decision = decide(seen, policy, memory, now)
    return Record("2026-01-31T12:00:00Z", now, policy, seen, memory, decision, decision.changes, "ns", "census")


@given(records)
def test_a_record_comes_back_to_the_bit_and_with_its_types(record: Record) -> None:
    back = decode(encode(record))
    assert repr(back) == repr(record), "repr tells 1 from 1.0 and 0.0 from -0.0"


@given(records)
def test_a_record_is_one_line_of_standard_json(record: Record) -> None:
    line = encode(record)
    assert b"\n" not in line

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    json.loads(line, parse_constant=refuse)


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_take_the_default() -> None:
    record = recorded(Observation(5, 0, 0), Policy(min_workers=1))
    plain = json.loads(encode(record))
    plain["novelty"] = 1
    plain["policy"]["novelty"] = {"a": [1]}
    del plain["policy"]["warm"], plain["seen"]["group"], plain["decision"]["steps"]
    back = decode(json.dumps(plain))
    assert back == replace(record, decision=replace(record.decision, steps=()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 2}, "update `millpond`"),
        ({"now": "noon"}, "record.now is not of type float"),
        ({"acted": 1}, "record.acted is not of type bool"),
        ({"seen": {}}, "record.seen.lag is missing"),
        ({"memory": {"needs": [[1.0]]}}, "record.memory.needs[0] is not a list of 2"),
        ({"policy": {"schedules": [{"name": "x", "start": 3, "end": ""}]}}, "record.policy.schedules[0].start"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(change: dict[str, Any], says: str) -> None:
    plain = json.loads(encode(recorded(Observation(5, 0, 0)))) | change
    with pytest.raises(RecordError) as refused:
        decode(json.dumps(plain))
    assert says in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"x"'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError):
        decode(text)


def test_a_recorded_timeline_is_made_again_identically() -> None:
    policy, memory, current = Policy(max_workers=9, scale_down=Behavior(2.5)), Memory(), 0
    lines = []
    for step, (lag, flight) in enumerate([(5, 0), (5, 5), (0, 0), (None, 0), (3, None), (1, 1), (0, 0), (0, 0)] * 4):
        record = recorded(Observation(lag, flight, current), policy, memory, step * 1.1)
        memory, current = record.decision.memory, record.decision.target
        lines.append(encode(record))
    assert [again(decode(line)) for line in lines] == [None] * len(lines)


def test_another_policy_shows_where_the_number_would_have_differed() -> None:
    record = recorded(Observation(50, 0, 0), Policy(max_workers=4))
    found = again(record, replace(record.policy, max_workers=40))
    assert found is not None
    assert (found.number, found.recorded.target, found.made.target) == (True, 4, 40)


def test_a_decision_that_differs_in_words_alone_is_told_from_another_number() -> None:
    decision = recorded(Observation(5, 0, 0)).decision
    found = compare(decision, replace(decision, message="because"))
    assert found is not None
    assert (found.number, found.fields) == (False, ("message",))


def test_a_recorded_day_is_decided_again_identically() -> None:
    """A day with bursts, schedules, groups and gaps in what is known, as the operator would write it down."""
    night = Schedule("night", "0 22 * * *", "0 6 * * *", "Europe/Berlin", max_workers=3)
    slow = Behavior(300.0, (RatePolicy("Percent", 50, 240.0), RatePolicy("Pods", 4, 240.0)), "Max", 0.1)
    policy = Policy(
        max_workers=20, latency=20.0, lag_per_slot=5.0, utilization=0.8, warm=1, schedules=(night,), scale_down=slow
    )
    chance, memory, current, lag, arrived, lines = Chance(1, "day"), Memory(), 0, 0, 0, []
    for look in range(720):
        now = look * 120.0 + chance.uniform(0, 1)
        came = int(chance.exponential(8.0)) if look % 97 < 30 else 0
        arrived, lag = arrived + came, max(0, lag + came - 3 * current)
        unknown = chance.uniform() < 0.03
        seen = Observation(
            lag=None if unknown else lag,
            in_flight=None if chance.uniform() < 0.03 else min(lag, current),
            current=current,
            wall=1_767_571_200.0 + now,
            ready=current,
            arrived=arrived,
            service_seconds=chance.lognormal(4.0, 0.3) if look > 10 else None,
            allowance=9 if look % 200 > 150 else None,
        )
        decision = decide(seen, policy, memory, now)
        lines.append(encode(Record("", now, policy, seen, memory, decision, decision.changes, "ns", "day")))
        memory, current = decision.memory, decision.target
    records = [decode(line) for line in lines]
    assert [found for record in records if (found := again(record))] == []
    reasons = {record.decision.reason for record in records}
    assert {"ScaleUp", "ScaleDown", "Stabilizing", "LagUnknown", "HeartbeatsMissing"} <= reasons
