"""A recorded decision comes back to the bit, across versions, and is made again identically."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_scaling import Memory, Observation, Policy, decide
from millpond_scaling.model import Behavior, Decision
from millpond_scaling.records import Record, RecordError, again, compare, decode, encode

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
