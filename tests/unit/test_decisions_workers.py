"""A worker's state from beats, events and its pod; its recorded steps are steps of the state machine."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millpond_api.events import Beat, InFlight, WorkerEvent
from millpond_api.lifecycle import worker_may
from millpond_api.v1alpha1 import WorkerStatus
from millpond_operator.decisions.pods import Ended, PodFacts
from millpond_operator.decisions.stuck import decide_news
from millpond_operator.decisions.workers import LOST_AFTER, WorkerMemory, make_worker_status

START = datetime(2030, 1, 1, tzinfo=UTC)
OOM = Ended("OOMKilled", 137, "2030-01-01T00:00:30Z", "raise the limit")
CLEAN = Ended("Completed", 0, "2030-01-01T00:00:30Z", "the container ended with exit code 0")


@dataclass
class Life:
    """One worker as the operator hears of it; every `look` is a reconcile."""

    memory: WorkerMemory = field(default_factory=lambda: WorkerMemory(pod=PodFacts("w", "u", phase="Pending")))
    status: WorkerStatus | None = None
    now: float = 0.0
    incarnation: int = 0

    def look(self) -> "Life":
        at = START + timedelta(seconds=self.now)
        self.status = make_worker_status(self.memory, self.status, at, self.now)
        return self

    def wait(self, seconds: float) -> "Life":
        self.now += seconds
        return self

    def starts(self) -> "Life":
        """Its container runs (again)."""
        assert self.memory.pod
        restarts = self.memory.pod.restarts + (1 if self.memory.pod.ended else 0)
        self.memory.pod = replace(self.memory.pod, phase="Running", running=True, restarts=restarts)
        self.incarnation += 1
        return self.tells("Starting")

    def beats(self, state: str, in_flight: int = 0) -> "Life":
        at = START + timedelta(seconds=self.now)
        running = [InFlight(task=f"t{n}", since=at) for n in range(in_flight)]
        incarnation = str(self.incarnation)
        self.memory.beat = Beat(state=state, at=at, started=START, slots=4, in_flight=running, incarnation=incarnation)
        self.memory.heard = self.now
        return self

    def tells(self, state: str) -> "Life":
        """It stores a transition, and says so in a beat at once."""
        self.memory.events = [*self.memory.events, WorkerEvent(state=state, at=START + timedelta(seconds=self.now))]
        return self.beats(state, 1 if state == "Busy" else 0)

    def ends(self, how: Ended) -> "Life":
        """Its container has ended."""
        assert self.memory.pod
        self.memory.pod = replace(self.memory.pod, running=False, ready=False, ended=how)
        self.memory.ended_incarnation = self.memory.beat.incarnation if self.memory.beat else ""
        return self

    def goes(self) -> "Life":
        """Its pod does not exist any more."""
        self.memory.gone = True
        return self

    @property
    def state(self) -> str:
        assert self.status
        return self.status.state

    @property
    def reason(self) -> str:
        assert self.status
        return self.status.reason

    @property
    def steps(self) -> list[str]:
        assert self.status
        return [step.state for step in self.status.transitions]


def idle() -> Life:
    return Life().look().wait(1).starts().look().wait(1).tells("Idle").look().wait(1)


def test_a_new_pod_is_starting_until_it_says_more() -> None:
    life = Life().look()
    assert (life.state, life.steps) == ("Starting", ["Starting"])
    assert life.wait(5).look().steps == ["Starting"]


def test_a_quiet_life() -> None:
    life = idle().tells("Busy").look().wait(1).tells("Idle").look().wait(1).tells("Draining").look().wait(1)
    life = life.tells("Stopped").look().wait(1).ends(CLEAN).goes().look()
    assert life.state == "Stopped"
    assert life.steps == ["Starting", "Busy", "Idle", "Draining", "Stopped"] or life.steps[-2:] == [
        "Draining",
        "Stopped",
    ]


def test_out_of_memory_amid_a_task_is_failed_with_the_kubelets_reason() -> None:
    life = idle().tells("Busy").look().wait(1).ends(OOM).look()
    assert (life.state, life.reason) == ("Failed", "OOMKilled")
    assert life.status is not None
    assert (life.status.in_flight, life.status.running, life.status.exit_code) == (0, [], 137)


def test_a_restarted_container_starts_again_and_tells_what_it_restarted_after() -> None:
    life = idle().ends(OOM).look().wait(1).starts().look().wait(1)
    assert life.state == "Starting"
    assert life.tells("Idle").look().state == "Idle"
    assert life.reason == "Restarted after OOMKilled"


def test_a_beat_of_the_ended_process_does_not_bring_it_back() -> None:
    life = idle().ends(OOM).look().wait(1)
    assert life.beats("Idle").look().state == "Failed"


def test_silence_is_lost_and_a_beat_ends_it() -> None:
    life = idle().wait(LOST_AFTER + 1).look()
    assert (life.state, life.reason) == ("Lost", "HeartbeatsMissed")
    assert life.wait(1).beats("Idle").look().state == "Idle"
    assert life.steps[-3:] == ["Idle", "Lost", "Idle"]


def test_silence_shorter_than_the_limit_is_nothing() -> None:
    assert idle().wait(LOST_AFTER - 2).look().state == "Idle"


def test_a_worker_that_has_said_goodbye_is_not_lost_while_its_pod_lingers() -> None:
    life = idle().tells("Draining").look().wait(1).tells("Stopped").look().wait(LOST_AFTER + 60).look()
    assert life.state == "Stopped"
    assert life.steps[-1] == "Stopped"


EXCEEDED = Ended("SupervisionExceeded", 88, "2030-01-01T00:00:30Z", "exit code 88: 11 crashes of handler processes")


def test_a_worker_whose_supervisor_gave_up_is_failed_for_that_reason_whoever_tells_it_first() -> None:
    told = idle().tells("Draining").look().wait(1).beats("Failed").look()
    assert (told.state, told.status and told.status.reason) == ("Failed", "")
    assert told.wait(LOST_AFTER + 60).look().state == "Failed"
    status = told.ends(EXCEEDED).look().status
    assert status is not None
    assert (status.state, status.reason, status.exit_code) == ("Failed", "SupervisionExceeded", 88)
    assert status.message == "exit code 88: 11 crashes of handler processes"
    assert [(step.state, step.reason) for step in status.transitions[-2:]] == [
        ("Draining", ""),
        ("Failed", "SupervisionExceeded"),
    ]


@pytest.mark.parametrize(
    ("life", "state", "reason"),
    [
        pytest.param(
            idle().tells("Draining").look().wait(1).tells("Stopped").goes(), "Stopped", "Terminated", id="drained"
        ),
        pytest.param(idle().ends(CLEAN).goes(), "Stopped", "Terminated", id="ended well"),
        pytest.param(idle().ends(OOM).goes(), "Failed", "OOMKilled", id="killed"),
        pytest.param(idle().tells("Busy").goes(), "Stopped", "NeverStarted", id="never ran, says the kubelet"),
        pytest.param(Life().look().goes(), "Stopped", "NeverStarted", id="never started"),
    ],
)
def test_how_it_ended_when_its_pod_is_gone(life: Life, state: str, reason: str) -> None:
    if reason == "NeverStarted" and life.memory.pod and life.memory.beat:
        life.memory.pod = replace(life.memory.pod, running=False)
    life.look()
    assert (life.state, life.reason) == (state, reason)


def test_a_pod_that_vanished_amid_its_work_has_failed() -> None:
    life = idle().tells("Busy").look().wait(1).goes().look()
    assert (life.state, life.reason) == ("Failed", "PodGone")


def test_why_the_operator_took_it_away_is_kept() -> None:
    life = idle()
    life.memory.retired = "ScaleDown"
    life.tells("Draining").look()
    assert life.reason == "ScaleDown"
    assert life.wait(1).tells("Stopped").ends(CLEAN).goes().look().reason == "ScaleDown"


def test_looking_twice_changes_nothing() -> None:
    life = idle().tells("Busy").look()
    before = life.status
    assert life.look().status == before


def test_flips_between_idle_and_busy_do_not_push_out_the_steps_that_matter() -> None:
    life = idle()
    for _ in range(100):
        life.tells("Busy").look().wait(0.5).tells("Idle").look().wait(0.5)
    assert life.steps[0] == "Starting"
    assert len(life.steps) <= 4
    assert life.status is not None
    assert sum(step.count for step in life.status.transitions) >= 200


@given(st.lists(st.sampled_from(["Idle", "Busy", "Leased"]), min_size=20, max_size=60))
def test_flips_among_three_states_leave_few_steps_and_each_of_them_allowed(states: list[str]) -> None:
    life = idle()
    for state in states:
        life.tells(state).look().wait(0.5)
    assert life.steps[0] == "Starting"
    assert life.steps[-1] == states[-1]
    assert len(life.steps) <= 6
    assert all(worker_may(before, after) for before, after in pairwise(life.steps))


# ---- for every sensible order of what can happen


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """A pod's life: works, falls silent, crashes and restarts, drains, goes; looked at now and then."""
    life = Life()
    phase = "new"
    for _ in range(draw(st.integers(1, 14))):
        moves = {
            "new": ["start", "goes"],
            "starting": ["idle", "drain", "crash", "silence"],
            "Idle": ["busy", "drain", "crash", "silence", "beat", "goes"],
            "Busy": ["idle", "drain", "crash", "silence", "beat", "goes"],
            "Draining": ["stop", "crash", "silence", "beat"],
            "Stopped": ["end"],
            "ended": ["start", "goes"],
            "gone": ["look"],
        }[phase]
        phase = move(life, draw(st.sampled_from(moves)), phase)
        life.wait(draw(st.floats(0.1, 2.0)))
        if draw(st.booleans()):
            life.look()
    return life.look()


def move(life: Life, step: str, phase: str) -> str:
    """Make one thing happen; the phase afterwards."""
    match step:
        case "start":
            life.starts()
            return "starting"
        case "idle" | "busy" | "drain" | "stop":
            state = {"idle": "Idle", "busy": "Busy", "drain": "Draining", "stop": "Stopped"}[step]
            life.tells(state)
            return state
        case "crash":
            life.ends(OOM)
            return "ended"
        case "end":
            life.ends(CLEAN)
            return "ended"
        case "silence":
            life.wait(LOST_AFTER + 3).look()
            return phase
        case "beat":
            life.beats(phase)
            return phase
        case "goes":
            life.goes()
            return "gone"
    life.look()
    return phase


@given(lives())
def test_every_recorded_step_is_one_of_the_state_machine(life: Life) -> None:
    steps = life.steps
    wrong = [(a, b) for a, b in pairwise(steps) if not worker_may(a, b)]
    assert not wrong, f"{wrong} in {steps}"


@given(lives())
def test_an_ended_worker_runs_nothing(life: Life) -> None:
    assert life.status is not None
    if life.state in ("Stopped", "Failed"):
        assert life.status.in_flight == 0
        assert life.status.running == []


def test_a_task_that_hangs_is_told_with_its_place_once_and_again_when_it_moves() -> None:
    life = idle().tells("Busy").look().wait(1)
    moving = life.status
    assert moving
    assert [one.type for one in moving.conditions] == ["Ready"]
    assert life.memory.beat
    [task] = life.memory.beat.in_flight
    stuck = replace(task, handler="census.parse", hung=START, where="census.py:31 in parse")
    life.memory.beat = replace(life.memory.beat, in_flight=[stuck])
    hung = life.look().status
    assert hung
    assert hung.running[0].where == "census.py:31 in parse"
    condition = hung.conditions[1]
    assert (condition.type, condition.status, condition.reason) == ("Hung", "True", "TaskHung")
    assert "task t0 (census.parse, attempt 1) hangs at census.py:31 in parse since 2030-01-01T00:00:00Z" in (
        condition.message
    )
    assert decide_news(hung, moving, []) == [("TaskHung", condition.message)]
    assert decide_news(hung, hung, []) == []
    life.memory.beat = replace(life.memory.beat, in_flight=[task])
    again = life.look().status
    assert again
    assert (again.conditions[1].status, again.conditions[1].reason) == ("False", "Moving")
    assert again.running[0].hung is None


def test_a_starved_worker_is_told_once_with_the_stacks_that_its_understudy_wrote() -> None:
    life = idle().tells("Busy").look().wait(1)
    before = life.status
    assert life.memory.beat
    life.memory.beat = replace(life.memory.beat, starved=START)
    said = WorkerEvent(state="Busy", at=START + timedelta(seconds=9), reason="Starved", message='File "parse.py"')
    life.memory.events = [said]
    status = life.look().status
    assert status
    assert (status.state, status.starved) == ("Busy", START)
    assert (status.conditions[1].status, status.conditions[1].reason) == ("True", "Starved")
    assert decide_news(status, before, [said]) == [("Starved", 'File "parse.py"')]
    assert decide_news(status, status, [said]) == []


def test_what_an_ended_worker_said_of_a_hung_task_is_over() -> None:
    life = idle().tells("Busy").look().wait(1)
    assert life.memory.beat
    life.memory.beat = replace(life.memory.beat, starved=START)
    status = life.look().ends(OOM).look().status
    assert status
    assert (status.state, status.starved, status.conditions[1].status) == ("Failed", None, "False")
