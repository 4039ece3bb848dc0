"""YAML for generated files, without a YAML library (the contract needs only pydantic).

Writes block style; every string is a JSON string, which YAML reads alike, so no text can be mistaken for another type.
"""

import json
from typing import Any


def to_yaml(value: Any, indent: int = 0) -> str:
    """Block YAML of plain JSON data, ending with a newline."""
    return "".join(line + "\n" for line in _lines(value, indent))


def _lines(value: Any, indent: int) -> list[str]:
    pad = " " * indent
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            name = key if key.replace("-", "").replace("_", "").replace("$", "").isalnum() else json.dumps(key)
            if isinstance(item, (dict, list)) and item:
                lines.append(f"{pad}{name}:")
                lines.extend(_lines(item, indent + 2))
            else:
                lines.append(f"{pad}{name}: {_scalar(item)}")
    else:
        for item in value:
            if isinstance(item, (dict, list)) and item:
                first, *rest = _lines(item, indent + 2)
                lines.append(f"{pad}- {first[indent + 2 :]}")
                lines.extend(rest)
            else:
                lines.append(f"{pad}- {_scalar(item)}")
    return lines


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and value.replace("-", "").isalpha() and value.lower() not in _RESERVED
    return value if plain else json.dumps(value, ensure_ascii=False)


_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
