"""Amounts of memory as people write them in manifests: `512Mi`, `2Gi`, `500M`, or plain bytes.

Owns the part of Kubernetes' quantities that an amount of memory needs (whole numbers with a binary or decimal suffix),
for the CRD schemas (as a pattern) and Python alike.
"""

import re

PATTERN = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_FACTORS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_bytes(text: str) -> int:
    """Bytes in `text`; ValueError with the accepted form when it is not an amount of memory."""
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not an amount of memory: write a whole number and a unit, such as 512Mi or 2Gi")
    number = re.match("[0-9]+", text)
    assert number is not None
    return int(number[0]) * _FACTORS[text[number.end() :]]
