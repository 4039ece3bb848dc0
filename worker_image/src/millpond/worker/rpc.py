"""Answers the operator's requests on `mp.rpc.…`: ping, drain, cancel. One wildcard subscription, on the main loop.

Owns the wire side only; what draining and cancelling mean is the runtime's (`Commands`). A request that cannot be
read is answered with ok=false and the reason, because silence would be taken for a lost worker.
"""

import json
from typing import Any, Protocol

from millpond_api import subjects
from millpond_api.events import RpcAnswer

from millpond.transport import Message, Subscription, Transport


class Commands(Protocol):
    """What a worker can be asked."""

    def ping(self) -> RpcAnswer: ...

    async def drain(self, *, if_idle: bool) -> RpcAnswer: ...

    def cancel(self, task_id: str) -> RpcAnswer: ...


async def serve_rpc(transport: Transport, base: tuple[str, str, str], commands: Commands) -> Subscription:
    """Serve every verb of the worker `base` (namespace, pool, worker)."""

    async def on_request(message: Message) -> None:
        verb = message.subject.rpartition(".")[2]
        try:
            body = json.loads(message.body or b"{}")
            answer = await _dispatch(commands, verb, body if isinstance(body, dict) else {})
        except ValueError as error:
            answer = RpcAnswer(ok=False, message=f"the body of {verb} is not JSON: {error}")
        if message.reply:
            await transport.send(message.reply, answer.encode())

    return await transport.subscribe(subjects.rpc(*base, "*"), on_request)


async def _dispatch(commands: Commands, verb: str, body: dict[str, Any]) -> RpcAnswer:
    match verb:
        case "ping":
            return commands.ping()
        case "drain":
            return await commands.drain(if_idle=bool(body.get("if_idle", False)))
        case "cancel":
            return commands.cancel(str(body.get("task", "")))
        case _:
            return RpcAnswer(ok=False, message=f"unknown verb {verb!r}: there are {', '.join(subjects.RPC_VERBS)}")
