"""Has one worker take nothing new, and waits until it runs nothing: a pod's, or one outside the cluster.

Owns the request to the worker, over NATS (the cluster's own through the API server, as for dead letters); whose worker
it is says its Worker object. Asking again is harmless, so that is how it waits. What the worker does afterwards is its
own matter: a remote one ends, a pod's is replaced if it is still needed.
"""

import asyncio
from collections.abc import Callable

import pydantic
from millpond.transport import StreamMissing, Transport, TransportError
from millpond_api import subjects
from millpond_api.events import DrainAsk, RpcAnswer

from millpond_cli.errors import CliError
from millpond_cli.forwarding import CONNECT_SECONDS

ASK_SECONDS = 10.0
PAUSE = 0.5
Where = tuple[str, str, str]


async def drain(url: str, where: Where, seconds: float, say: Callable[[int], None]) -> bool:
    """Whether the worker (namespace, pool, name) runs nothing any more; `say(in flight)` is called on each change.

    With 0 seconds it is only asked. CliError when there is no such worker or it does not answer.
    """
    try:
        transport = await Transport.connect(url, "millpond-command", timeout=CONNECT_SECONDS)
    except TransportError as error:
        raise CliError(str(error)) from None
    try:
        return await _drain(transport, where, seconds, say)
    finally:
        await transport.close()


async def _drain(transport: Transport, where: Where, seconds: float, say: Callable[[int], None]) -> bool:
    end, said, asked = asyncio.get_running_loop().time() + seconds, -1, False
    while True:
        answer = await _ask(transport, where)
        if answer is None and not asked:
            raise CliError(f"worker {where[2]} does not listen: it has ended, or starts just now")
        asked, left = True, answer.in_flight if answer else 0
        if left != said:
            said = left
            say(left)
        if not left:
            return True
        if asyncio.get_running_loop().time() >= end:
            return False
        await asyncio.sleep(PAUSE)


async def _ask(transport: Transport, where: Where) -> RpcAnswer | None:
    """The worker's answer; None when nobody listens there."""
    try:
        answer = await transport.request(subjects.rpc(*where, "drain"), DrainAsk().encode(), timeout=ASK_SECONDS)
        return RpcAnswer.decode(answer.body)
    except StreamMissing:
        return None
    except (TransportError, pydantic.ValidationError) as error:
        raise CliError(f"worker {where[2]} does not answer: {error}") from None
