"""What a contender's no-op handler does: say when it started. Standard library alone, the same file for all.

`note` keeps the moment and how long the task had been under way; with the last of BENCH_TASKS it writes BENCH_OUT. The
clock is the machine's monotonic one, which all processes share.
"""

import itertools
import json
import os
import time

TASKS = int(os.environ.get("BENCH_TASKS", "1"))
SLOTS = int(os.environ.get("BENCH_SLOTS", "100"))
URL = os.environ.get("BENCH_URL", "")
VARIANT = os.environ.get("BENCH_VARIANT", "")
OUT = os.environ.get("BENCH_OUT", "meter.json")
FIRST = OUT + ".first"

_waits = []
_numbers = itertools.count(1)


def note(sent):
    """A task that was submitted at the moment `sent` has started."""
    now = time.monotonic()
    _waits.append(now - sent)
    number = next(_numbers)
    if number == 1:
        _write(FIRST, {"first": now, "cpu": _read_cpu()})
    if number == TASKS:
        _write(OUT, {"last": now, "waits": _waits})


def _read_cpu():
    """Seconds of CPU of this process' session so far: the worker with all its processes."""
    own, ticks = os.getsid(0), 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == own:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_for_first(submit_one, limit=60.0):
    """Submit one task and wait until it has started: then the worker is warm."""
    submit_one()
    until = time.monotonic() + limit
    while not os.path.exists(FIRST):
        if time.monotonic() > until:
            raise TimeoutError(f"the worker has not started the first task within {limit:g} s")
        time.sleep(0.05)


def pace():
    """Yields at each moment at which the next task is to be submitted: BENCH_TASKS - 1 of them, BENCH_RATE a second."""
    rate = float(os.environ["BENCH_RATE"])
    begun = time.monotonic()
    for number in range(TASKS - 1):
        left = begun + number / rate - time.monotonic()
        if left > 0:
            time.sleep(left)
        yield time.monotonic()


async def apace(submit):
    """The same for a client with `await submit(moment)`: what is due goes out together, as a busy server's would."""
    import asyncio

    await apace_many(lambda moment, count: asyncio.gather(*(submit(moment) for _ in range(count))))


async def apace_many(submit_many):
    """The same for a client that submits several at once: `await submit_many(moment, count)`."""
    import asyncio

    rate = float(os.environ["BENCH_RATE"])
    begun, number = time.monotonic(), 0
    while number < TASKS - 1:
        due = min(TASKS - 1, int((time.monotonic() - begun) * rate) + 1)
        if due > number:
            await submit_many(time.monotonic(), due - number)
            number = due
        await asyncio.sleep(0.001)


async def await_first(submit, limit=60.0):
    """`wait_for_first` for a client with coroutines."""
    import asyncio

    await submit(time.monotonic())
    await asyncio.to_thread(wait_for_first, lambda: None, limit)


def _write(path, what):
    with open(path + ".part", "w") as file:
        json.dump(what, file)
    os.rename(path + ".part", path)
