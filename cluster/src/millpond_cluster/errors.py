"""The errors of the cluster tool: one type, whose message is a sentence that says what to do.

Owns the exception types only; it must not print or exit (main.py does both).
"""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Something a person can act on; the message says what happened and what to do."""


class CommandFailed(ClusterError):
    """A program that was run ended with an error; carries its last lines so that the reason reaches the person."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"`{' '.join(argv[:6])}` ended with code {code}:\n{tail}")
