"""Answers NATS' own service discovery, so that `nats micro ls` and `$SRV.INFO.millpond-worker` list the workers.

Owns the three requests of ADR-32 (nats-architecture-and-design, "Service API"): PING, INFO and STATS, with or without
the service's name and id. It only reads the board. nats-py's `nats.micro` would need a connection of its own, and could
not speak to the broker of `millpond.testing`; the answers are the same.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
from millpond_api import subjects
from millpond_api.subjects import SERVICE

from millpond.transport import Message, Subscription, Transport
from millpond.worker.board import Board

_TYPE = "io.nats.micro.v1.{}_response"
_SECOND = 1_000_000_000


class Discovery:
    """One worker as a service. `verbs` names what it can be asked by RPC."""

    def __init__(self, where: tuple[str, str, str], board: Board, verbs: Callable[[], list[str]]) -> None:
        self._where, self._board, self._verbs = where, board, verbs
        self._id = f"{where[2]}-{board.incarnation}"
        self._version = version("millpond")

    async def serve(self, transport: Transport) -> list[Subscription]:
        """Answer from now on."""

        async def on_request(message: Message) -> None:
            answer = self._answer(message.subject.split(".")[1])
            if answer and message.reply:
                await transport.send(message.reply, orjson.dumps(answer))

        return [await transport.subscribe(subject, on_request) for subject in subjects.service_asks(self._id)]

    def _answer(self, verb: str) -> dict[str, Any]:
        """What it says; nothing to a verb that ADR-32 does not know."""
        said = {"name": SERVICE, "id": self._id, "version": self._version, "metadata": self._metadata()}
        match verb:
            case "PING":
                return {"type": _TYPE.format("ping"), **said}
            case "INFO":
                what = "a worker of a Millpond pool"
                return {"type": _TYPE.format("info"), **said, "description": what, "endpoints": self._endpoints()}
            case "STATS":
                started = self._board.started.isoformat()
                return {"type": _TYPE.format("stats"), **said, "started": started, "endpoints": [self._figures()]}
        return {}

    def _metadata(self) -> dict[str, str]:
        """ADR-32 has texts only."""
        board, (namespace, pool, worker) = self._board, self._where
        facts = {"namespace": namespace, "pool": pool, "worker": worker, "state": str(board.state)}
        counts = {"slots": str(board.slots), "in_flight": str(board.in_flight)}
        return {**facts, **counts, "handlers": ",".join(board.handlers)}

    def _endpoints(self) -> list[dict[str, Any]]:
        return [
            {"name": verb, "subject": subjects.rpc(*self._where, verb), "queue_group": ""} for verb in self._verbs()
        ]

    def _figures(self) -> dict[str, Any]:
        """Attempts at tasks since the start; times in nanoseconds."""
        board = self._board
        ended = board.succeeded + board.failed
        return {
            "name": "tasks",
            "subject": subjects.tasks_all(*self._where[:2]),
            "queue_group": "",
            "num_requests": ended,
            "num_errors": board.failed,
            "last_error": "",
            "processing_time": int(board.served_seconds * _SECOND),
            "average_processing_time": int(board.served_seconds / ended * _SECOND) if ended else 0,
        }
