"""Durations as people write them in manifests: `500ms`, `30s`, `5m`, `1h30m`.

Owns the one grammar that the CRD schemas (as a pattern and a CEL rule) and Python share. Kubernetes' own
`metav1.Duration` uses the same notation; days are left out there too, because they are not always 24 hours.
"""

import re

PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in `text`; ValueError with the accepted form when it is not a duration."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write a number and a unit, such as 500ms, 30s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest text of `seconds` with at most two units, for people: `0.8s`, `45s`, `2m5s`, `3h10m`."""
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m" if minutes else f"{hours}h"
