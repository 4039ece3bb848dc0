"""Starting, stopping and restarting the components of one cluster.

Owns the tie between a component's record in state.json, its pid file and its log. A component is recorded before it
is started; one that already runs is left alone. It must not know what the components are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from millpond_cluster.errors import ClusterError
from millpond_cluster.local import processes
from millpond_cluster.local.control_plane import Command
from millpond_cluster.local.processes import ProcessId
from millpond_cluster.local.state import ClusterState, ComponentRecord, write_state
from millpond_cluster.paths import ClusterPaths

_ALIASES = {
    "apiserver": "kube-apiserver",
    "controller-manager": "kube-controller-manager",
    "scheduler": "kube-scheduler",
    "proxy": "kube-proxy",
    "dns": "coredns",
}


class Components:
    """The components of one cluster."""

    def __init__(self, paths: ClusterPaths, state: ClusterState) -> None:
        self._paths = paths
        self._state = state
        self._recording = threading.Lock()

    def read_process(self, name: str) -> ProcessId | None:
        return processes.read_pid_file(self._paths.pid_file(name))

    def running(self) -> dict[str, ProcessId]:
        found = {name: self.read_process(name) for name in self._state.components}
        return {name: process for name, process in found.items() if process is not None}

    def dead(self) -> list[str]:
        running = self.running()
        return [name for name in self._state.components if name not in running]

    def ensure(self, command: Command) -> None:
        """Starts it unless it runs."""
        if self.read_process(command.name) is None:
            # Independent components start side by side: one record at a time, or a write could miss the other's.
            with self._recording:
                self._state.components[command.name] = ComponentRecord(argv=command.argv, cgroup=command.cgroup)
                write_state(self._paths, self._state)
            self._start(command.name)

    def restart(self, name: str) -> ProcessId:
        """SIGKILL, as a crash would, and a start with the same arguments."""
        name = _ALIASES.get(name, name)
        if name not in self._state.components:
            raise ClusterError(f"no component {name!r} in this cluster; it has: {', '.join(self._state.components)}")
        if (process := self.read_process(name)) is not None:
            processes.kill([process])
        return self._start(name)

    def stop(self, names: Iterable[str]) -> None:
        running = self.running()
        processes.stop([running[name] for name in names if name in running])

    def wait_until(
        self, condition: Callable[[], bool], what: str, *, needs: Iterable[str], seconds: float = 120
    ) -> None:
        """Waits for `condition`; gives up at once, with its last lines, when a component that it needs has ended."""
        deadline = time.monotonic() + seconds
        needs = tuple(needs)
        while not condition():
            for name in needs:
                if self.read_process(name) is None:
                    raise ClusterError(f"{name} ended while waiting for {what}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                tails = "\n".join(f"--- {name}\n{self._tail(name, 4)}" for name in needs)
                raise ClusterError(
                    f"{what} did not come within {seconds:.0f} s; the logs lie in {self._paths.logs}\n{tails}"
                )
            time.sleep(0.1)

    def _start(self, name: str) -> ProcessId:
        record = self._state.components[name]
        process = processes.spawn(record.argv, self._paths.pid_file(name), self._paths.log_file(name), record.cgroup)
        if process is None:
            raise ClusterError(f"{name} ended at once:\n{self._tail(name)}")
        return process

    def _tail(self, name: str, lines: int = 8) -> str:
        try:
            text = self._paths.log_file(name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])
