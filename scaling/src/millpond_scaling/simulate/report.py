"""Outcomes as a table, as lines for a terminal, and as a small SVG. Pure text; the same bytes for the same outcomes.

Owns how figures are rounded and drawn. The plot is made by hand (two panels of lines) because a plotting library would
weigh more than the command.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from millpond_scaling.simulate.model import Moment, Outcome

COLUMNS = (
    "policy", "p50", "p95", "p99", "max", "worker-s", "busy", "pods", "flaps", "told busy", "cut off", "not run",
)  # fmt: skip
BLOCKS = " ▁▂▃▄▅▆▇█"
COLOURS = ("#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#7f7f7f")
WIDTH, PANEL, LEFT, TOP = 760, 170, 52, 44


def row(outcome: Outcome, slots: int = 1) -> tuple[str, ...]:
    """One line of the table; latencies in seconds."""
    paid = outcome.worker_seconds * slots
    return (
        outcome.policy,
        *(f"{outcome.percentile(share):.1f}" for share in (0.5, 0.95, 0.99, 1.0)),
        f"{outcome.worker_seconds:.0f}",
        f"{outcome.busy_seconds / paid:.0%}" if paid else "-",
        str(outcome.pods),
        str(outcome.flaps),
        str(outcome.told_busy),
        str(outcome.interrupted),
        str(outcome.unfinished),
    )


def markdown(outcomes: Sequence[Outcome], slots: int = 1) -> str:
    """The table for documents."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" + "|--:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(row(one, slots)) + " |" for one in outcomes]
    return "\n".join(lines)


def plain(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON data, without its single latencies."""
    return {
        "policy": outcome.policy,
        "latency": {name: outcome.percentile(share) for name, share in _SHARES.items()},
        "workerSeconds": outcome.worker_seconds,
        "busySeconds": outcome.busy_seconds,
        "pods": outcome.pods,
        "changes": outcome.changes,
        "flaps": outcome.flaps,
        "toldBusy": outcome.told_busy,
        "interrupted": outcome.interrupted,
        "unfinished": outcome.unfinished,
        "peak": outcome.peak,
        "series": [list(moment) for moment in outcome.series],
    }


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def sparks(outcomes: Sequence[Outcome], width: int = 72) -> list[str]:
    """For each policy its workers over time as blocks, all on one scale."""
    highest = max((moment.workers for one in outcomes for moment in one.series), default=0) or 1
    names = max(len(one.policy) for one in outcomes)
    lines = [f"{'workers over time':{names}}  (full height: {highest})"]
    for one in outcomes:
        marks = "".join(BLOCKS[math.ceil(value / highest * 8)] for value in _columns(one.series, width))
        lines.append(f"{one.policy:{names}}  {marks}")
    return lines


def _columns(series: Sequence[Moment], width: int) -> list[int]:
    """The highest number of workers in each of `width` equal parts."""
    parts: list[int] = [0] * width
    for index, moment in enumerate(series):
        place = min(width - 1, index * width // max(1, len(series)))
        parts[place] = max(parts[place], moment.workers)
    return parts


def svg(title: str, outcomes: Sequence[Outcome]) -> str:
    """Two panels over time: tasks waiting (a scale that shows 1 and 1,000 alike) and workers."""
    height = TOP + 2 * (PANEL + 40) + 20 * math.ceil(len(outcomes) / 4)
    end = max(one.series[-1].at for one in outcomes)
    waiting = max(10, *(moment.waiting for one in outcomes for moment in one.series))
    crew = max(4, *(moment.workers for one in outcomes for moment in one.series))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>',
    ]
    log = math.log1p(waiting)
    parts += _panel(
        TOP, "waiting", [t for t in (0, 10, 100, 1000, 10000) if t <= waiting], lambda v: math.log1p(v) / log
    )
    parts += _panel(TOP + PANEL + 40, "workers", [0, crew // 2, crew], lambda v: v / crew)
    # The first policy is drawn last, so that it lies on top.
    for colour, one in reversed(list(zip(COLOURS, outcomes, strict=False))):
        parts.append(_line(TOP, colour, [(m.at / end, math.log1p(m.waiting) / log) for m in one.series]))
        parts.append(_line(TOP + PANEL + 40, colour, [(m.at / end, m.workers / crew) for m in one.series]))
    bottom = TOP + 2 * (PANEL + 40) - 8
    parts += [f'<text x="{LEFT}" y="{bottom - 10}">0</text>']
    parts += [f'<text x="{WIDTH - 12}" y="{bottom - 10}" text-anchor="end">{end / 60:.0f} min</text>']
    for index, (colour, one) in enumerate(zip(COLOURS, outcomes, strict=False)):
        x, y = LEFT + 176 * (index % 4), bottom + 12 + 18 * (index // 4)
        parts.append(f'<rect x="{x}" y="{y - 8}" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y - 2}">{escape(one.policy)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(top: int, name: str, ticks: Sequence[int], place: Callable[[float], float]) -> list[str]:
    parts = [f'<text x="{LEFT}" y="{top - 6}" fill="#555">{name}</text>']
    for tick in ticks:
        y = top + PANEL * (1 - place(tick))
        parts.append(f'<path d="M{LEFT} {y:.0f}H{WIDTH - 12}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end" fill="#555">{tick}</text>')
    return parts


def _line(top: int, colour: str, points: Sequence[tuple[float, float]]) -> str:
    """Steps between the points; a level that stays is one stroke."""
    drawn: list[str] = []
    last = None
    for across, up in points:
        x, y = LEFT + across * (WIDTH - 12 - LEFT), top + PANEL * (1 - up)
        if last is None:
            drawn.append(f"M{x:.0f} {y:.0f}")
        elif round(y) != last:
            drawn.append(f"H{x:.0f}V{y:.0f}")
        last = round(y)
    drawn.append(f"H{WIDTH - 12}")
    return f'<path d="{"".join(drawn)}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
