"""What is generated is up to date, and a diagram tells every row of its table."""

import re

import pytest
from millpond_api.lifecycle import TASK_TRANSITIONS, WORKER_TRANSITIONS, Transition

from scripts.generate import generate, make_diagram, make_readme


def test_the_committed_files_are_what_the_contract_generates() -> None:
    assert generate(check=True) == 0


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    text = "before\n<!-- states:task -->\nold\n<!-- /states:task -->\nafter\n"
    made = make_readme(text)
    assert made.startswith("before\n<!-- states:task -->\n```mermaid\nstateDiagram-v2\n")
    assert made.endswith("```\n<!-- /states:task -->\nafter\n")
    assert make_readme(made) == made


def test_a_text_without_markers_stays_as_it_is() -> None:
    assert make_readme("nothing here\n") == "nothing here\n"


@pytest.mark.parametrize("table", [TASK_TRANSITIONS, WORKER_TRANSITIONS], ids=["task", "worker"])
def test_the_diagram_has_exactly_the_rows_of_the_table(table: tuple[Transition, ...]) -> None:
    diagram = make_diagram(table, frozenset({"End"}), "Start")
    groups = {name: states.split(", ") for states, name in re.findall(r'state "any of (.*)" as (any\d+)', diagram)}
    drawn = set()
    for source, target in re.findall(r"^    (\w+) --> (\w+): ", diagram, re.MULTILINE):
        drawn |= {(a, b) for a in groups.get(source, [source]) for b in groups.get(target, [target])}
    assert drawn == {(str(step.source), str(step.target)) for step in table}
