"""The number in what a handler says of its progress (`40% of the corn`): one reading for the SDK and the command."""

import re

_PERCENT = re.compile(r"^(\d+(?:\.\d+)?)%")


def parse_percent(text: str) -> float | None:
    """0 to 100 when the text begins with a percentage, else None."""
    found = _PERCENT.match(text)
    return min(100.0, float(found.group(1))) if found else None
