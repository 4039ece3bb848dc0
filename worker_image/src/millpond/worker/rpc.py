"""Answers the operator's requests on `mp.rpc.…`: ping, drain, cancel. One wildcard subscription, on the main loop.

Owns the wire side only; what draining and cancelling mean is the runtime's (`Commands`). A request that cannot be
read is answered with ok=false and the reason, because silence would be taken for a lost worker.
"""

from typing import Protocol

import pydantic
from millpond_api import subjects
from millpond_api.events import CancelAsk, DrainAsk, RpcAnswer

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
            answer = await _dispatch(commands, verb, message.body or b"{}")
        except pydantic.ValidationError as error:
            answer = RpcAnswer(ok=False, message=f"the body of {verb} cannot be read: {error.errors()[0]['msg']}")
        if message.reply:
            await transport.send(message.reply, answer.encode())

    return await transport.subscribe(subjects.rpc(*base, "*"), on_request)


async def _dispatch(commands: Commands, verb: str, body: bytes) -> RpcAnswer:
    match verb:
        case "ping":
            return commands.ping()
        case "drain":
            return await commands.drain(if_idle=DrainAsk.model_validate_json(body).if_idle)
        case "cancel":
            return commands.cancel(CancelAsk.model_validate_json(body).task)
        case _:
            return RpcAnswer(ok=False, message=f"unknown verb {verb[:64]!r}: there are {', '.join(subjects.RPC_VERBS)}")
