"""Only what was started is stopped, whatever was killed in between. These tests use real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from millpond_cluster.local.processes import ProcessId, is_alive, kill, read_pid_file, read_process, spawn, stop

from tests.support.eventually import eventually_sync

SLEEPER = ["/bin/sleep", "60"]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessId]:
    process = spawn(SLEEPER, tmp_path / "pid", tmp_path / "log")
    assert process is not None
    yield process
    kill([process])


def test_a_component_is_known_by_its_pid_file_and_lives_in_its_own_session(sleeper: ProcessId, tmp_path: Path) -> None:
    assert read_pid_file(tmp_path / "pid") == sleeper
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_the_pid_of_the_file_is_the_programs_own(sleeper: ProcessId) -> None:
    program = os.path.realpath("/bin/sleep")
    while os.path.realpath(f"/proc/{sleeper.pid}/exe") != program:
        assert is_alive(sleeper)  # still the shell that becomes it


def test_a_reused_pid_is_never_signalled(sleeper: ProcessId) -> None:
    earlier_owner = ProcessId(sleeper.pid, "another boot:1")
    assert not is_alive(earlier_owner)
    stop([earlier_owner], grace=0.1)
    kill([earlier_owner])
    assert is_alive(sleeper)


def test_stop_ends_a_process_that_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = spawn(
        [
            "/bin/sh",
            "-c",
            "trap '' TERM; touch ready; while :; do sleep 0.05; done".replace("ready", str(tmp_path / "ready")),
        ],
        tmp_path / "pid",
        tmp_path / "log",
    )
    assert stubborn is not None
    while not (tmp_path / "ready").exists():
        pass
    stop([stubborn], grace=0.2)
    assert read_process(stubborn.pid) is None


def test_a_program_that_ends_at_once_leaves_its_reason_in_the_log(tmp_path: Path) -> None:
    process = spawn(["/bin/sh", "-c", "echo reason; exit 3"], tmp_path / "pid", tmp_path / "log")
    while is_alive(process):
        pass
    assert "reason" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("content", ["", "half a li", "1 (init) S\n"], ids=["empty", "cut", "no-boot-id"])
def test_a_half_written_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert read_pid_file(tmp_path / "pid") is None


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(SLEEPER)
    process = read_process(child.pid)
    assert is_alive(process)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process)
    child.returncode = -signal.SIGKILL  # read_process reaped it


HEADLESS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # exit of this thread alone
"""


def test_a_process_whose_main_thread_has_ended_counts_as_alive_until_its_last_thread_has(tmp_path: Path) -> None:
    """As in the milliseconds after a SIGKILL: its ports are still taken, and a restart would fail to listen."""
    process = spawn([sys.executable, "-c", HEADLESS], tmp_path / "pid", tmp_path / "log")
    assert process is not None
    state = Path(f"/proc/{process.pid}/stat")
    eventually_sync(lambda: state.read_text().rpartition(")")[2].split()[0] == "Z", what="a main thread that has ended")
    assert is_alive(process)
    kill([process])
    assert not is_alive(process)
