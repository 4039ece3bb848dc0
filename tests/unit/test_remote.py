"""Workers outside the cluster, the pure parts: access, the worker's environment, its rights, its Worker object."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest
from millpond.access import Access, AccessError, move_secrets, read_access, redact_url
from millpond.worker.joining import URL, differs, make_join_environment, make_worker_environment
from millpond.worker.remote import NAME, make_name
from millpond_api import subjects
from millpond_api.events import Beat, InFlight, WorkerEvent
from millpond_api.remote import PoolSettings, format_rights, make_rights
from millpond_api.v1alpha1 import WorkerPoolSpec, WorkerStatus
from millpond_operator.cluster_key import PoolKey
from millpond_operator.decisions.crowd import make_crowd
from millpond_operator.decisions.workers import Silence, WorkerMemory, decide_state, make_worker_status
from millpond_operator.resources.deployment import make_deployment
from millpond_operator.resources.variables import make_settings

AT = datetime(2026, 1, 2, tzinfo=UTC)


def told(**variables: str) -> PoolSettings:
    return PoolSettings(at=AT, variables={f"MILLPOND_{name.upper()}": value for name, value in variables.items()})


def beat(state: str = "Idle", tasks: int = 0, **more: object) -> Beat:
    running = [InFlight(task=f"t{number}", since=AT) for number in range(tasks)]
    return dataclasses.replace(
        Beat(state=state, at=AT, started=AT, slots=4, in_flight=running, remote="laptop"),
        **more,  # type: ignore[arg-type]
    )


def outside(said: Beat | None, **more: object) -> WorkerMemory:
    return dataclasses.replace(WorkerMemory(beat=said, heard=100.0, host="laptop"), **more)  # type: ignore[arg-type]


# ---- credentials


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"user": "u"}, "MILLPOND_NATS_USER and MILLPOND_NATS_PASSWORD belong together"),
        ({"user": "u", "password": "p", "token": "t"}, "USER and MILLPOND_NATS_TOKEN are both given"),
        ({"creds": "no/such"}, "MILLPOND_NATS_CREDS=no/such: there is no such file"),
        ({"key": "k"}, "MILLPOND_NATS_KEY is given without MILLPOND_NATS_CERT"),
        ({"inbox": "a b"}, "MILLPOND_NATS_INBOX='a b' must be words"),
    ],
)
def test_credentials_that_can_not_work_are_named_before_anything_connects(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(AccessError, match=sentence):
        read_access({f"MILLPOND_NATS_{name.upper()}": value for name, value in given.items()})


def test_an_authority_that_is_no_certificate_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(AccessError, match="not usable as PEM"):
        Access(ca=str(tmp_path / "ca.pem")).check().options()


def test_no_secret_stands_in_what_is_printed() -> None:
    access = Access(user="box", password="grist", token="flour")
    assert "grist" not in repr(access)
    assert "flour" not in repr(access)
    assert "grist" not in access.who


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://u:p@h:4222", "nats://h:4222"),
        ("nats://a:1,tls://t@b:2,c:3", "nats://a:1,tls://b:2,c:3"),
        ("u:p@h", "h"),
        ("nats://u:p@ss@h", "nats://h"),
        ("nats://h", "nats://h"),
    ],
)
def test_a_url_is_shown_without_what_lets_in(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert move_secrets(url)[0] == shown


def test_a_password_of_the_command_line_moves_into_the_environment() -> None:
    given = {"url": "nats://box:grist@h", "namespace": "n", "pool": "p", "name": None}
    made = make_join_environment(given, {"PATH": "/bin"})
    assert made[URL] == "nats://h"
    assert (made["MILLPOND_NATS_USER"], made["MILLPOND_NATS_PASSWORD"]) == ("box", "grist")
    assert made["MILLPOND_NATS_INBOX"] == "_INBOX.remote.n.p"
    assert made["MILLPOND_REMOTE"]
    assert "MILLPOND_WORKER" not in made


# ---- what the pool says


def test_the_pools_word_counts_but_for_what_only_the_machine_knows() -> None:
    own = {"MILLPOND_LEASE": "99", "MILLPOND_CONCURRENCY": "8", "MILLPOND_APP": "mine:app", "MILLPOND_NATS_URL": "x"}
    made = make_worker_environment(told(lease="3", concurrency="1", app="its:app"), own)
    assert made["MILLPOND_LEASE"] == "3"
    assert (made["MILLPOND_CONCURRENCY"], made["MILLPOND_APP"]) == ("8", "mine:app")
    assert (made["MILLPOND_NATS_URL"], made["MILLPOND_HTTP_PORT"]) == ("x", "0")


def test_only_a_change_that_reaches_this_worker_makes_it_begin_anew() -> None:
    own = {"MILLPOND_CONCURRENCY": "8"}
    assert differs(told(lease="3", concurrency="1"), told(lease="3", concurrency="2"), own) == []
    assert differs(told(lease="3"), told(lease="4", timeout="9"), own) == ["MILLPOND_LEASE", "MILLPOND_TIMEOUT"]


def test_a_remote_worker_is_told_what_its_pods_have_but_for_address_name_and_port() -> None:
    spec = WorkerPoolSpec.model_validate(
        {"image": "i", "app": "a:app", "timeouts": {"hard": "9s"}, "rateLimit": {"rate": "5/s"}}
    )
    key = PoolKey("n", "p")
    container = make_deployment(key, spec, "nats://x", 1)["spec"]["template"]["spec"]["containers"][0]
    pods = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    for name in ("MILLPOND_NATS_URL", "MILLPOND_HTTP_PORT"):
        del pods[name]
    assert make_settings(key, spec, AT).variables == pods


def test_settings_of_a_newer_operator_are_read_and_the_time_alone_is_no_news() -> None:
    read = PoolSettings.decode(b'{"at": "2030-01-01T00:00:00Z", "variables": {"MILLPOND_LEASE": "3"}, "new": 1}')
    assert read.says_the_same(told(lease="3"))
    assert not read.says_the_same(told(lease="4"))
    assert not PoolSettings(at=AT, deleted=True).open


@pytest.mark.parametrize("host", ["GPU_Box.example.org", "x" * 80, "laptop"])
def test_a_hosts_name_becomes_one_that_a_worker_object_can_have(host: str) -> None:
    assert NAME.fullmatch(make_name(host, "pool"))


# ---- rights


def test_every_right_is_bound_to_the_pool_but_for_those_that_the_page_names() -> None:
    rights = make_rights("team", "mill")
    streams = ("MILLPOND_EVENTS", "MILLPOND_CATALOGUE", "MILLPOND_PARKED", "MILLPOND_OBJECTS", "MILLPOND_SIGNALS")
    tidied = {f"$JS.API.STREAM.PURGE.{stream}" for stream in ("MILLPOND_SIGNALS", "MILLPOND_CHECKPOINTS")}
    unbound = {f"$JS.API.DIRECT.GET.{stream}" for stream in streams} | {"$JS.API.STREAM.INFO.MILLPOND_LIMITS"} | tidied
    queue = subjects.pool_stream("team", "mill")
    for subject in (*rights.publish, *rights.subscribe):
        assert (
            subject in unbound or subject.startswith("$SRV.") or "team.mill" in subject or queue in subject.split(".")
        ), subject
    assert {one for one in rights.publish if "DELETE" in one or "PURGE" in one} == tidied
    with_limits = make_rights("team", "mill", limits=True)
    assert set(with_limits.publish) - set(rights.publish) == {
        "$JS.API.STREAM.PURGE.MILLPOND_DELAYED",
        "$JS.API.STREAM.MSG.DELETE.MILLPOND_PARKED",
    }
    assert '"mp.tasks.team.mill.>"' in format_rights(rights)


# ---- the Worker object


def test_an_older_workers_heartbeat_is_a_pods() -> None:
    assert (
        Beat.decode(b'{"state":"Idle","at":"2026-01-01T00:00:00Z","started":"2026-01-01T00:00:00Z","slots":1}').remote
        == ""
    )


def test_a_remote_worker_is_what_it_says_and_lost_when_it_says_nothing() -> None:
    assert decide_state(outside(beat("Busy", 1)), None, 101.0).state == "Busy"
    lost = decide_state(outside(beat(), silence=Silence.LOST), None, 120.0)
    assert (lost.state, lost.reason) == ("Lost", "HeartbeatsMissed")
    gone = decide_state(outside(beat(), silence=Silence.LONG, gone=True), None, 900.0)
    assert (gone.state, gone.reason) == ("Stopped", "Gone")


def test_a_remote_worker_that_a_new_leader_has_not_heard_yet_is_not_ended() -> None:
    verdict = decide_state(outside(None, heard=0.0), WorkerStatus(state="Idle"), 5.0)
    assert verdict.state == "Lost"


def test_a_drained_remote_worker_is_stopped_with_its_own_reason_and_keeps_it() -> None:
    goodbye = WorkerEvent(state="Stopped", at=AT, reason="Drained", message="nothing runs any more")
    first = make_worker_status(outside(beat("Stopped"), gone=True, events=[goodbye]), None, AT, 101.0)
    assert (first.state, first.reason, first.node) == ("Stopped", "Drained", "laptop")
    again = make_worker_status(outside(beat("Stopped"), gone=True), first, AT, 102.0)
    assert (again.state, again.reason) == ("Stopped", "Drained")


def test_remote_workers_count_for_what_is_run_and_offered_and_never_as_pods() -> None:
    crowd = make_crowd([], [outside(beat("Busy", 3)), outside(beat("Draining", 2))])
    assert (crowd.pods, crowd.ready, crowd.drained, crowd.ready_of) == (0, 0, (), {})
    assert (crowd.in_flight, crowd.remote, crowd.remote_slots, crowd.remote_in_flight) == (5, 2, 6, 5)
    assert crowd.states == {"Busy": 1, "Draining": 1}


def test_a_remote_worker_that_fell_silent_has_no_slots_and_makes_the_rest_unknown_until_its_leases_end() -> None:
    silent = make_crowd([], [outside(beat("Busy", 3), silence=Silence.LOST)])
    assert (silent.in_flight, silent.remote_slots, silent.states) == (None, 0, {"Lost": 1})
    assert make_crowd([], [outside(beat("Busy", 3), silence=Silence.LONG)]).in_flight == 0


def test_a_handler_that_a_remote_worker_has_is_not_missing() -> None:
    lacks = outside(beat(missing={"resize": 2}))
    assert make_crowd([], [lacks]).missing == (("resize", 2),)
    assert make_crowd([], [lacks, outside(beat(handlers=("resize",)))]).missing == ()
