"""What the figures of a run without a cluster depend on: the machine, the code, the command. Only reads."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel


class Machine(BaseModel):
    """What the figures depend on."""

    command: str
    at: str
    commit: str
    machine: str
    load: tuple[float, float]
    """At the beginning and at the end of the run."""
    note: str = ""


def read_machine(target: str) -> Machine:
    """This machine now; `target` is the one of the Makefile, the arguments are this process's own."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = round(os.getloadavg()[0], 1)
    return Machine(
        command=f"make {target}" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        at=datetime.now(UTC).strftime("%Y-%m-%d"),
        commit=commit.stdout.strip(),
        machine=f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        load=(load, load),
    )


def with_load(machine: Machine) -> Machine:
    """The same at the end of the run."""
    return machine.model_copy(update={"load": (machine.load[0], round(os.getloadavg()[0], 1))})
