"""The section of the queue benchmark: its tables, its goals and what it was measured on, from a result. Pure."""

from bench.figures import make_table
from bench.machine import Machine
from bench.queue.contenders import MILLPOND, PEERS, RAW, RAW_PROTOCOL, Contender
from bench.queue.model import MAIN, SERVER, QueueProfile, QueueResult, cpu_per_task, rates

TIMES_THE_BEST_PEER = 1.5
SHARE_OF_RAW = 0.6


def describe(result: QueueResult) -> str:
    """Tables, goals, machine."""
    goals = "\n".join(f"* {line}" for line in make_goal_lines(result))
    parts = [make_rate_table(result), goals, make_durability_table(result), _say_machine(result.machine)]
    return "\n\n".join([*parts, result.machine.note] if result.machine.note else parts)


def describe_profile(profile: QueueProfile) -> str:
    """Threads, then what the main thread does; each in microseconds of CPU a task."""
    threads = [one for one in sorted(profile.threads.items(), key=lambda one: -one[1]) if one[0] != SERVER]
    rows = [[name, f"{micros:.1f}"] for name, micros in [*threads, (SERVER, profile.threads.get(SERVER, 0.0))]]
    main = profile.threads[MAIN]
    inside = [[kind, f"{share * main:.1f}", f"{share:.0%}"] for kind, share in profile.kinds]
    tables = [make_table(["CPU of", "µs a task"], rows), make_table([f"of the {MAIN}", "µs a task", "share"], inside)]
    return "\n\n".join([*tables, _say_machine(profile.machine)])


def _say_machine(machine: Machine) -> str:
    return (
        f"`{machine.command}` on {machine.at} at {machine.commit}: {machine.machine}, "
        f"load {machine.load[0]:.1f} → {machine.load[1]:.1f}."
    )


def make_rate_table(result: QueueResult) -> str:
    """Rates, CPU and latencies, the fastest first; what could not be measured stands last, with the reason."""
    found = rates(result)
    waits = {one.contender: one for one in result.latencies}
    header = ["", "tasks/s", "rounds", "worker µs", "server µs", "half load", "p50 ms", "p99 ms"]
    rows = []
    for name in sorted(found, key=lambda name: -found[name]):
        mine = [one for one in result.rounds if one.contender == name]
        spread = f"{min(one.rate for one in mine):,.0f}–{max(one.rate for one in mine):,.0f}"
        wait = waits.get(name)
        late = [f"{wait.rate:,.0f}/s", _ms(wait.p50), _ms(wait.p99)] if wait else ["–"] * 3
        rows.append([name, f"{found[name]:,.0f}", spread, *(f"{cpu:.0f}" for cpu in cpu_per_task(result, name)), *late])
    rows += [[one.name, f"not measured: {one.missing}", *["–"] * 6] for one in result.entries if one.missing]
    return make_table(header, rows)


def make_durability_table(result: QueueResult) -> str:
    """What each contender has stored when, and what it promises."""
    header = ["", "version", "server", "on disk when answered", "results kept", "promise", "slots"]
    rows = [
        [one.name, one.version, one.server, one.stored, one.results, one.promise, str(one.slots)]
        for one in result.entries
    ]
    return make_table(header, rows)


def make_goal_lines(result: QueueResult) -> list[str]:
    """Whether the goals hold, with the figures; then what stands beside them without being a goal."""
    found, ours = rates(result), rates(result).get(MILLPOND.name)
    if ours is None:
        return []
    lines = []
    if best := _fastest(found, keeps=True):
        times = ours / found[best.name]
        lines.append(
            f"{_verdict(times >= TIMES_THE_BEST_PEER)}: {times:.2f} × the best peer that keeps results ({best.name}); "
            f"the goal is {TIMES_THE_BEST_PEER} ×"
        )
    if RAW.name in found:
        share = ours / found[RAW.name]
        lines.append(
            f"{_verdict(share >= SHARE_OF_RAW)}: {share:.0%} of the raw loop, which stores nothing and confirms "
            f"nothing; the goal is {SHARE_OF_RAW:.0%}"
        )
    if RAW_PROTOCOL.name in found:
        share = ours / found[RAW_PROTOCOL.name]
        lines.append(f"beside: {share:.0%} of the loop that stores and confirms the same by hand")
    worker, server = cpu_per_task(result, MILLPOND.name)
    if worker:
        lines.append(
            f"bound: one interpreter at {worker:.0f} µs a task does at most {1e6 / worker:,.0f} tasks/s, and did "
            f"{ours * worker / 1e6:.0%} of that; the server beside it was busy for {ours * server / 1e6:.0%} of a core"
        )
    if other := _fastest(found, keeps=False):
        times = ours / found[other.name]
        lines.append(f"beside: {times:.2f} × the fastest peer that keeps no results ({other.name})")
    return lines + [f"trouble: {line}" for line in result.troubles]


def _fastest(found: dict[str, float], *, keeps: bool) -> Contender | None:
    """Of the peers that were measured."""
    here = [one for one in PEERS if one.name in found and one.keeps == keeps]
    return max(here, key=lambda one: found[one.name], default=None)


def _verdict(held: bool) -> str:
    return "held" if held else "**missed**"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}" if seconds < 1 else f"{seconds * 1000:,.0f}"
