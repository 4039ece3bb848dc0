"""The JetStream API of the broker: `$JS.API.…` requests as JSON, for streams and consumers.

Owns names, paging and answers; what a stream or a consumer does is theirs.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from millpond.testing.broker import consumer as consumers
from millpond.testing.broker.consumer import Consumer
from millpond.testing.broker.reading import nanoseconds
from millpond.testing.broker.store import timestamp
from millpond.testing.broker.stream import Stream, full_config
from millpond.testing.broker.wire import Refusal, consumer_missing, overlaps, stream_missing

PREFIX = "$JS.API."
PAGE = 256
Answer = dict[str, Any]
_NO_PAGE = {"total": 0, "offset": 0, "limit": 0}


@dataclass(eq=False)
class Site:
    """What the server holds."""

    streams: dict[str, Stream]
    consumers: dict[tuple[str, str], Consumer]
    make_stream: Callable[[dict[str, Any]], Stream]
    drop_stream: Callable[[Stream], None]
    make_consumer: Callable[[Stream, dict[str, Any]], Consumer]
    now: Callable[[], int]

    def stream(self, name: str) -> Stream:
        if name not in self.streams:
            raise stream_missing()
        return self.streams[name]

    def consumer(self, stream: str, name: str) -> Consumer:
        self.stream(stream)
        if (stream, name) not in self.consumers:
            raise consumer_missing()
        return self.consumers[stream, name]

    def consumers_of(self, stream: str) -> list[Consumer]:
        return [one for (owner, _), one in sorted(self.consumers.items()) if owner == stream]


def handle(site: Site, subject: str, body: bytes) -> bytes | None:
    """The answer to a request; None for one that nobody answers."""
    words = subject.removeprefix(PREFIX).split(".")
    act = next((_VERBS[".".join(words[:size])] for size in (3, 2, 1) if ".".join(words[:size]) in _VERBS), None)
    if act is None:
        return None
    size, kind, work = act
    try:
        ask = json.loads(body) if body.strip() else {}
        found = work(site, words[size:], ask)
    except Refusal as refusal:
        found = {"error": refusal.encode(), **(_NO_PAGE if kind == "stream_info" else {})}
    except ValueError:
        found = {"error": Refusal(400, 10025, "invalid JSON").encode()}
    return json.dumps({"type": f"io.nats.jetstream.api.v1.{kind}_response", **found}).encode()


def _info(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    stream = site.stream(names[0])
    found = {**_NO_PAGE, **describe(site, stream)}
    pattern = ask.get("subjects_filter")
    if pattern and (subjects := dict(sorted(stream.store.subjects(pattern).items()))):
        found["state"]["subjects"] = subjects
        found |= {"total": len(subjects), "limit": 100_000}
    return found


def describe(site: Site, stream: Stream) -> Answer:
    """A stream as STREAM.INFO and STREAM.LIST have it."""
    found = stream.info()
    found["state"]["consumer_count"] = len(site.consumers_of(stream.name))
    return {**found, "created": timestamp(stream.created), "ts": timestamp(site.now())}


def _create(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    config = full_config({**ask, "name": names[0]})
    known = site.streams.get(names[0])
    if known is not None:
        if known.config != config:
            raise Refusal(400, 10058, "stream name already in use with a different configuration")
        return {**describe(site, known), "did_create": True}
    _check_overlap(site, config)
    return {**describe(site, site.make_stream(config)), "did_create": True}


def _update(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    stream = site.stream(names[0])
    config = full_config({**ask, "name": names[0]})
    if config["retention"] != stream.config["retention"]:
        raise Refusal(500, 10052, "stream configuration update can not change retention policy to/from workqueue")
    _check_overlap(site, config)
    stream.config = config
    return describe(site, stream)


def _check_overlap(site: Site, config: Mapping[str, Any]) -> None:
    for other in site.streams.values():
        if other.name != config["name"] and any(
            overlaps(mine, theirs) for mine in config["subjects"] for theirs in other.config["subjects"]
        ):
            raise Refusal(400, 10065, "subjects overlap with an existing stream")


def _delete(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    site.drop_stream(site.stream(names[0]))
    return {"success": True}


def _purge(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    return {"success": True, "purged": site.stream(names[0]).purge(ask)}


def _names(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    return _paged(ask, "streams", sorted(site.streams), 1024)


def _list(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    found = [describe(site, site.streams[name]) for name in sorted(site.streams)]
    if pattern := ask.get("subject"):
        found = [one for one in found if any(overlaps(pattern, mine) for mine in one["config"]["subjects"])]
    return _paged(ask, "streams", found, PAGE)


def _paged(ask: Mapping[str, Any], what: str, found: list[Any], limit: int) -> Answer:
    offset = int(ask.get("offset") or 0)
    return {"total": len(found), "offset": offset, "limit": limit, what: found[offset : offset + limit]}


def _get(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    stream = site.stream(names[0])
    if last := ask.get("last_by_subj"):
        entry = stream.store.last_of(last)
    elif pattern := ask.get("next_by_subj"):
        entry = stream.store.next_of(pattern, int(ask.get("seq") or 1))
    else:
        entry = stream.store.get(int(ask.get("seq") or 0))
    if entry is None:
        raise Refusal(404, 10037, "no message found")
    message = {"subject": entry.subject, "seq": entry.sequence}
    if entry.headers:
        lines = "".join(f"{name}: {value}\r\n" for name, value in entry.headers.items())
        message["hdrs"] = base64.b64encode(f"NATS/1.0\r\n{lines}\r\n".encode()).decode()
    message |= {"data": base64.b64encode(entry.data).decode(), "time": entry.time}
    return {"message": message}


def _forget(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    stream, sequence = site.stream(names[0]), int(ask.get("seq") or 0)
    if sequence > stream.store.last:
        raise Refusal(500, 10057, "stream store EOF")
    if not stream.remove(sequence):
        # A file store that has no block for the sequence says it in other words: two answers for one thing.
        raise Refusal(400, 10043, f"sequence {sequence} not found")
    return {"success": True}


def _consume(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    """Create a consumer, or update one."""
    stream = site.stream(names[0])
    given = ask.get("config") or {}
    name = names[1] if len(names) > 1 else given.get("durable_name") or given.get("name")
    config = consumers.DEFAULTS | {key: value for key, value in given.items() if value not in (None, "", 0, [])}
    config |= {"name": name}
    known = site.consumers.get((stream.name, str(name)))
    if known is not None:
        if ask.get("action") == "create" and known.config != config:
            raise Refusal(400, 10148, "consumer already exists")
        known.config |= config
        known.serve()
        return known.info()
    if ask.get("action") == "update":
        raise Refusal(400, 10149, "consumer does not exist")
    if stream.config["retention"] == "workqueue":
        _check_exclusive(site, stream, config)
    return site.make_consumer(stream, config).info()


def _check_exclusive(site: Site, stream: Stream, config: Mapping[str, Any]) -> None:
    """A message of a work queue belongs to one consumer."""
    mine = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
    for other in site.consumers_of(stream.name):
        if any(overlaps(one, two) for one in mine for two in other.patterns):
            raise Refusal(400, 10100, "filtered consumer not unique on workqueue stream")


def _consumer_info(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    return site.consumer(names[0], names[1]).info()


def _consumer_delete(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    site.consumer(names[0], names[1]).delete()
    del site.consumers[names[0], names[1]]
    return {"success": True}


def _consumer_names(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    site.stream(names[0])
    return _paged(ask, "consumers", [one.name for one in site.consumers_of(names[0])], 1024)


def _consumer_list(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    site.stream(names[0])
    return _paged(ask, "consumers", [one.info() for one in site.consumers_of(names[0])], PAGE)


def _pause(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    found = site.consumer(names[0], names[1])
    until = ask.get("pause_until")
    found.pause(nanoseconds(until) if until else 0)
    if not found.paused:
        return {"paused": False}
    left = int(found.config["pause_until_ns"]) - site.now()
    return {"paused": True, "pause_until": until, "pause_remaining": left}


def _account(site: Site, names: list[str], ask: Mapping[str, Any]) -> Answer:
    return {"memory": 0, "storage": 0, "streams": len(site.streams), "consumers": len(site.consumers), "limits": {}}


_VERBS: dict[str, tuple[int, str, Callable[[Site, list[str], Mapping[str, Any]], Answer]]] = {
    "INFO": (1, "account_info", _account),
    "STREAM.INFO": (2, "stream_info", _info),
    "STREAM.CREATE": (2, "stream_create", _create),
    "STREAM.UPDATE": (2, "stream_update", _update),
    "STREAM.DELETE": (2, "stream_delete", _delete),
    "STREAM.PURGE": (2, "stream_purge", _purge),
    "STREAM.NAMES": (2, "stream_names", _names),
    "STREAM.LIST": (2, "stream_list", _list),
    "STREAM.MSG.GET": (3, "stream_msg_get", _get),
    "STREAM.MSG.DELETE": (3, "stream_msg_delete", _forget),
    "CONSUMER.CREATE": (2, "consumer_create", _consume),
    "CONSUMER.DURABLE.CREATE": (3, "consumer_create", _consume),
    "CONSUMER.INFO": (2, "consumer_info", _consumer_info),
    "CONSUMER.DELETE": (2, "consumer_delete", _consumer_delete),
    "CONSUMER.NAMES": (2, "consumer_names", _consumer_names),
    "CONSUMER.LIST": (2, "consumer_list", _consumer_list),
    "CONSUMER.PAUSE": (2, "consumer_pause", _pause),
}
