"""One delivery of a message: what its reply subject tells, and the words that answer it.

Owns the format of JetStream's ack subjects and payloads. Pure.
"""

import json
from dataclasses import dataclass

from millpond.transport import Message

ACK = b"+ACK"
NAK = b"-NAK"
TERM = b"+TERM"
IN_PROGRESS = b"+WPI"
_PREFIX = "$JS.ACK."


@dataclass(slots=True)
class Delivery:
    """A message handed to us: the `count`th delivery of the stream's message `sequence`, stored at `stored`."""

    message: Message
    sequence: int
    count: int
    stored: float = 0.0
    """Epoch seconds of the server."""

    @property
    def reply(self) -> str:
        return self.message.reply


def is_delivery(message: Message) -> bool:
    """Whether this is a message of a stream, not a status of the server."""
    return message.reply.startswith(_PREFIX)


def parse_delivery(message: Message) -> Delivery:
    """`$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<count>.<sequence>.<consumer's>.<time>.<pending>[.…]`."""
    tokens = message.reply.split(".")
    # Nine tokens without a domain; with one there are two more in front, and newer servers may add to the end.
    first = 4 if len(tokens) == 9 else 6
    stored = int(tokens[first + 3]) / 1e9
    return Delivery(message, sequence=int(tokens[first + 1]), count=int(tokens[first]), stored=stored)


def nak_after(seconds: float) -> bytes:
    """Not now: deliver it again in `seconds`."""
    return NAK + b" " + json.dumps({"delay": int(seconds * 1e9)}).encode()


def own_headers(message: Message) -> dict[str, str]:
    """The submitter's headers. The server's own (`Nats-…`) would act again if they were published again."""
    return {name: value for name, value in message.headers.items() if not str(name).startswith("Nats-")}
