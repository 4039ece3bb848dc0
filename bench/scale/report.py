"""The figures of a run as a table, as JSON, and as a section of docs/benchmarks.md.

Owns how they are shown and held against what was asked for: the loop's p99 below 1 s, less than 300 MB, less than a
core when steady, and a cost that grows no faster than the pools.
"""

import json
from itertools import pairwise
from pathlib import Path

from bench.scale.meter import Cost
from bench.scale.phases import Plan, Point

BEGIN, END = "<!-- bench:scale -->", "<!-- /bench:scale -->"
LOOP_P99, MEMORY, CORES = 1.0, 300.0, 1.0
AROUND = ("grow", "steady_minute")
SETTING = """\
all on one machine of two cores; stand-in workers send real heartbeats and answer real drains. The cluster is a real
control plane (etcd without fsync; Go's collector at GOGC=400; 100 writes in flight; a scheduler that does not look for
the best of nodes that are all alike), and kwok for nodes and kubelets: what a phase takes is mostly theirs."""
SHOWN = ("idle", "storm", "grow", "steady_minute", "churn", "shrink")

Row = tuple[str, ...]


def make_rows(points: list[Point]) -> list[Row]:
    """One row a phase of each point."""
    rows: list[Row] = [
        ("pools", "workers", "phase", "s", "cores", "RSS MB", "loop p50 ms", "loop p99 ms", "API writes/s")
    ]
    for point in points:
        for phase in SHOWN:
            cost = point.costs.get(phase)
            if cost is None:
                continue
            workers = round(point.figures.get("workers", 0)) if phase not in ("idle", "storm") else 0
            numbers = (f"{cost.seconds:.0f}", f"{cost.cores:.2f}", f"{cost.rss:.0f}")
            loop = (f"{cost.tick_p50 * 1000:.0f}", f"{cost.tick_p99 * 1000:.0f}", f"{cost.writes:.1f}")
            rows.append((str(point.plan.pools), str(workers), phase.replace("_", " "), *numbers, *loop))
    return rows


def make_figures(points: list[Point]) -> list[Row]:
    """The other figures, one column a point."""
    names = list(dict.fromkeys(name for point in points for name in point.figures))
    head = ("figure", *(f"{point.plan.pools} pools" for point in points))
    return [head, *((name, *(_number(point.figures.get(name)) for point in points)) for name in names)]


def make_around(points: list[Point]) -> list[Row]:
    """Who else spent the machine, in cores: one row a component, two columns a point."""
    seen = [(point, phase) for point in points for phase in AROUND if phase in point.costs]
    costs = {(point.plan.pools, phase): point.costs[phase].others for point, phase in seen}
    names = list(dict.fromkeys(name for others in costs.values() for name in others))
    head = ("cores of", *(f"{pools}: {phase.replace('_', ' ')}" for pools, phase in costs))
    return [head, *((name, *(f"{others.get(name, 0.0):.2f}" for others in costs.values())) for name in names)]


def judge(points: list[Point]) -> list[str]:
    """What was asked for, each with the worst figure that was seen."""
    loops = [(cost.tick_p99, point.plan.pools, phase) for point in points for phase, cost in point.costs.items()]
    peaks = [(cost.peak, point.plan.pools) for point in points for cost in point.costs.values()]
    steady = [
        (point.costs["steady_minute"].cores, point.plan.pools) for point in points if "steady_minute" in point.costs
    ]
    slowest, largest = max(loops), max(peaks)
    calm = max(one for one in loops if one[2] in ("idle", "steady_minute", "churn"))
    lines = [
        _verdict(calm[0] < LOOP_P99, f"loop p99 {calm[0]:.2f} s with nothing that comes or goes by the thousand"),
        _verdict(
            slowest[0] < LOOP_P99,
            f"loop p99 {slowest[0]:.2f} s ({slowest[1]} pools, {slowest[2]}), below {LOOP_P99:.0f} s",
        ),
        _verdict(largest[0] < MEMORY, f"peak memory {largest[0]:.0f} MB ({largest[1]} pools), below {MEMORY:.0f} MB"),
    ]
    if steady:
        busiest = max(steady)
        text = f"steady {busiest[0]:.2f} cores ({busiest[1]} pools), below {CORES:.0f}"
        lines.append(_verdict(busiest[0] < CORES, text))
    lines += [_growth(small, large) for small, large in pairwise(points)]
    return lines + [note for point in points for note in point.notes]


def _growth(small: Point, large: Point) -> str:
    """Of two points: CPU of the steady minute against the number of pools."""
    if not all("steady_minute" in point.costs for point in (small, large)):
        return f"growth from {small.plan.pools} to {large.plan.pools} pools: not measured"
    costs = [point.costs["steady_minute"].cores for point in (small, large)]
    pools = large.plan.pools / small.plan.pools
    grown = costs[1] / max(costs[0], 0.001)
    return _verdict(grown <= pools, f"{pools:.0f} times the pools cost {grown:.1f} times the CPU when steady")


def make_table(rows: list[Row]) -> str:
    """Columns for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def make_markdown(points: list[Point], command: str, note: str = "") -> str:
    """The section of docs/benchmarks.md; `note` says what else the machine did."""
    parts = [
        BEGIN,
        "## Scale",
        "",
        f"`{command}`: the operator as one process beside a kwok cluster and one nats-server,",
    ]
    parts += [
        SETTING,
        note,
        "",
    ]
    tables = [make_rows(points), make_figures(points), make_around(points)]
    parts += [line for table in tables for line in (_markdown(table), "")]
    parts += [f"* {line}" for line in judge(points)]
    return "\n".join([*parts, END])


def read(folder: Path) -> list[Point]:
    """The points of the last run, if there are any."""
    file = folder / "scale.json"
    found = json.loads(file.read_text()) if file.exists() else []
    return [
        Point(
            Plan(**one["plan"]),
            {phase: Cost(**cost) for phase, cost in one["costs"].items()},
            one["figures"],
            one["notes"],
        )
        for one in found
    ]


def write(points: list[Point], said: tuple[str, str], folder: Path, document: Path) -> None:
    """JSON into the folder, the section into the document (made when there is none); `said`: command and note."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scale.json").write_text(json.dumps([point.to_json() for point in points], indent=1) + "\n")
    text = document.read_text(encoding="utf-8") if document.exists() else "# Benchmarks\n"
    section = make_markdown(points, *said)
    before, found, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if found else "\n"
    document.write_text(f"{before.rstrip()}\n\n{section}{after}", encoding="utf-8")


def _markdown(rows: list[Row]) -> str:
    head, *body = rows
    return "\n".join([_line(head), _line(tuple("---" for _ in head)), *(_line(row) for row in body)])


def _line(row: Row) -> str:
    return f"| {' | '.join(row)} |"


def _verdict(holds: bool, text: str) -> str:
    return f"{'yes' if holds else 'NO'}: {text}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
