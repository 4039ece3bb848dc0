"""What may stand in a pool's queue and is no task: hypothesis makes it, and says what its dead letter has to name.

Owns the kinds of damage (envelopes with a wrong field, flipped bits, junk, deep JSON, foreign headers, payloads that no
codec reads, messages of the largest size) and what must be seen of each (`throw`). It must not know how a worker finds
out.
"""

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from millpond import Client
from millpond.letters import DeadLetter
from millpond.packing import Habits, find_lack, wrap_of
from millpond.transport import Refused
from millpond_api import subjects
from millpond_api.envelope import MalformedTask, parse_envelope
from millpond_api.events import MAX_PAYLOAD_BYTES, DrainAsk
from millpond_api.lifecycle import TERMINAL
from millpond_api.subjects import HEADER_ENVELOPE

ID = "%id%"
"""Stands for an id that no other message has: `with_id` puts it in."""
GOOD: dict[str, Any] = {"id": ID, "handler": "echo", "enqueued": "2026-01-01T00:00:00Z"}
BODY = b'{"args": [1]}'
CASE = "X-Case"
LARGEST = 1024 * 1024
"""Bytes of a message that a nats-server takes unless told otherwise, headers included."""


class Garbage(NamedTuple):
    """A message. `names`: what the reason of its dead letter has in it; None: it may also be a task, or wait."""

    envelope: str | None
    body: bytes = BODY
    names: str | None = None
    foreign: dict[str, str] = {}  # noqa: RUF012  # never changed

    def with_id(self, name: str) -> "Garbage":
        return self._replace(envelope=self.envelope and self.envelope.replace(ID, name))

    @property
    def headers(self) -> dict[str, str]:
        found = {} if self.envelope is None else {HEADER_ENVELOPE: self.envelope}
        return found | self.foreign

    @property
    def waits(self) -> bool:
        """Whether it is a task that this side's workers hold: of a handler, a codec or a compression of others."""
        try:
            envelope = parse_envelope(self.envelope)
        except MalformedTask:
            return False
        return envelope.handler != "echo" or bool(find_lack(wrap_of(envelope, Habits())))


NO_COUNTS: tuple[Any, ...] = (-1, 0.5, "x", None, [], {}, "1e400", 10**30, 2**53 + 1)
WRONG: dict[str, tuple[Any, ...]] = {
    "id": ("", "a.b", "*", ">", "é", "x" * 129, "y" * 50_000, None, 5, [], {}),
    "handler": ("", "a b", "é", "h" * 129, "h" * 50_000, "line\nfeed", None, 7, {}),
    "codec": ("", "c" * 65, "c" * 50_000, None, 5),
    "zip": ("z" * 65, None, 5, []),
    "class": ("", "a.b", "*", ">", "c" * 50_000, None, 5),
    "attempt": (0, *NO_COUNTS),
    "snoozes": NO_COUNTS,
    "redrives": NO_COUNTS,
    "spent": (1, 5, *NO_COUNTS),
    "enqueued": ("yesterday", None, [], "NaN", "2026-13-01T00:00:00Z", 1e300),
    "deadline": ("never", {}, "NaN", 1e300),
    "retry": (
        5,
        "always",
        {"max_attempts": 0},
        {"initial": -1},
        {"kind": "magic"},
        {"factor": "NaN"},
        {"maximum": "inf"},
    ),
    "timeout": (0, -1, "soon", [], "NaN"),
    "soft_timeout": (0, -1, "soon", "NaN"),
    "lane": ("../", "a.b", "l" * 17, 5),
    "key": ("k" * 257, "k" * 50_000, None, 5),
    "rate_key": ("k" * 257, 5),
    "fair": ("f" * 257, 5),
    "object": ("o" * 254, 5),
    "passes": (5, [], {"x": "soon"}, {"x": None}),
}
"""By field: values that make it no envelope."""


@st.composite
def wrong_fields(draw: st.DrawFn) -> Garbage:
    """An envelope with one field that cannot be; its letter names the field."""
    name = draw(st.sampled_from(sorted(WRONG)))
    value = draw(st.sampled_from(WRONG[name]))
    return Garbage(json.dumps({**GOOD, name: value}), names=rf"Mp-Envelope: (task )?{name}\b")


@st.composite
def flipped(draw: st.DrawFn) -> Garbage:
    """A good envelope with a few characters changed: whatever it is then."""
    text = list(json.dumps({**GOOD, "attempt": 2, "codec": "json", "class": "default"}))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text) - 1))
        text[place] = chr(ord(text[place]) ^ (1 << draw(st.integers(0, 6))))
    return Garbage("".join(text).replace("\r", " ").replace("\n", " "))


def deep(size: int) -> str:
    return "[" * size


junk_headers = st.one_of(
    st.none(),
    st.text(max_size=40),
    st.sampled_from(
        ["", "{}", "[]", "null", "NaN", deep(30_000), '{"id":"%id%","x":' + deep(30_000), "\ud800", "\x00"]
    ),
).map(lambda text: Garbage(text, names="Mp-Envelope"))
junk_bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            *(b"[1, 2", b"\xff\xfe", b"[]", b"null", b"NaN", b'"x"', b'{"args": 5}', b'{"kwargs": [1]}'),
            *(b'{"args": [1e999999]}', b'{"args": ["\\ud800"]}', b'{"args":' + b"[" * 300_000),
            *(b'{"args":[' + b"9" * 300_000 + b"]}", b"\x81" * 300_000, b"\xc1" * 300_000, b"\x9b" + b"\xff" * 8),
            *(b"\x91" * 300_000, b"\xdd" + b"\xff" * 4, b"\xa1\x64args\xd8\x1c\x81\xd8\x1d\x00"),
            *(b"\xa1\x64args\x81\xd8\x1e\x82\x01\x00", b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8),
        ]
    ),
)


@st.composite
def bad_payloads(draw: st.DrawFn) -> Garbage:
    """A good envelope over a body that may be in any codec, or in none."""
    codec = draw(st.sampled_from(["json", "msgpack", "cbor", "pickle"]))
    zipped = draw(st.sampled_from(["", "", "zstd"]))
    return Garbage(json.dumps({**GOOD, "codec": codec, "zip": zipped}), draw(junk_bodies))


@st.composite
def large(draw: st.DrawFn) -> Garbage:
    """Up to the last byte that the server takes, with and without an envelope."""
    envelope = draw(st.sampled_from([None, json.dumps(GOOD), json.dumps({**GOOD, "attempt": 0})]))
    size = draw(st.sampled_from([MAX_PAYLOAD_BYTES + 1, LARGEST - 4096, LARGEST - 160]))
    names = "payload" if envelope and "attempt" not in envelope else "Mp-Envelope"
    return Garbage(envelope, b"x" * size, names)


@st.composite
def with_foreign_headers(draw: st.DrawFn) -> Garbage:
    """Beside an envelope or none: headers of other programs, also such as look like the server's words."""
    name = st.sampled_from(
        ["Status", "Description", "Nats-Sequence", "Nats-Msg", "traceparent", "X-Big", "mp-envelope"]
    )
    text = st.sampled_from(["404", "503", "", "x", "é", "z" * 41_000, "{}", "\ud800"])
    foreign = draw(st.dictionaries(name, text, max_size=3))
    envelope = draw(st.sampled_from([None, json.dumps({**GOOD, "attempt": 0})]))
    return Garbage(envelope, draw(st.sampled_from([b"", b"junk"])), "Mp-Envelope", foreign)


garbage = st.one_of(
    wrong_fields(), wrong_fields(), flipped(), junk_headers, bad_payloads(), large(), with_foreign_headers()
).filter(lambda one: not one.waits)

_NUMBERS = itertools.count()
PATIENCE = 60.0


async def throw(client: Client, pool: str, batch: Sequence[Garbage], is_empty: Callable[[], Awaitable[None]]) -> None:
    """Put the batch into the pool's queue, then a good task: that must run, and each piece end once and with a reason.

    `is_empty` waits until nothing is left in the queue.
    """
    subject, sent = subjects.tasks(client.namespace, pool, "default"), dict[str, Garbage]()
    for one in batch:
        case = f"g{next(_NUMBERS)}"
        message = one.with_id(case)
        try:
            await client.transport.publish_stored(subject, message.body, headers={CASE: case, **message.headers})
        except Refused:
            continue  # what the server does not take, no worker ever sees
        sent[case] = message
    good = await client.submit(pool, "echo", ["good"])
    assert await good.result(timeout=PATIENCE) == "good"
    await is_empty()
    letters = await _read_letters(client, pool)
    for case, message in sent.items():
        shown = f"{case}: {message.headers} {message.body[:60]!r}"[:400]
        if message.names or letters[case]:
            assert len(letters[case]) == 1, f"{len(letters[case])} dead letters of {shown}"
            error = letters[case][0].error
            assert re.search(message.names or ".", error.message), f"{error.message[:300]!r} for {shown}"
        else:
            assert (await client.handle(pool, case).status()).state in TERMINAL, shown


async def _read_letters(client: Client, pool: str) -> dict[str, list[DeadLetter]]:
    """By case; they are thrown away."""
    found: defaultdict[str, list[DeadLetter]] = defaultdict(list)
    async for letter in client.dead(pool).list():
        found[letter.stored.headers.get(CASE, "")].append(letter)
    await client.transport.api("STREAM.PURGE.MILLPOND_DEAD", {"filter": subjects.dead_all(client.namespace, pool)})
    return found


@st.composite
def asks(draw: st.DrawFn) -> tuple[str, bytes]:
    """Verb and body of a request to a worker that changes nothing."""
    verb = draw(st.sampled_from(["ping", "cancel", "drain", "stack", "inspect", "x" * 2000]))
    body = draw(st.one_of(junk_bodies, st.just(json.dumps({"task": "t" * 900_000}).encode())))
    return verb, body


def drains(verb: str, body: bytes) -> bool:
    """Whether a worker would do it."""
    try:
        DrainAsk.model_validate_json(body or b"{}")
    except ValueError:
        return False
    return verb == "drain"
