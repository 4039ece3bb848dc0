"""Ask a worker something, or the worker that runs a task, whichever that is now.

Owns the client's side of `mp.rpc.…`: one request, one typed answer or one typed error. It must not change anything by
itself; what is asked is its caller's. It survives a task that moved on to another worker between two questions (the log
says where it is), and tells a worker that is gone from one that does not run the task any more.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import pydantic
from millpond_api import subjects
from millpond_api.events import NOT_RUNNING, RpcAnswer
from millpond_api.lifecycle import TaskState
from millpond_api.subjects import Address
from millpond_api.wire import Wire

from millpond.errors import NotRunning, WorkerRefused, WorkerUnreachable
from millpond.transport import StreamMissing, Transport, TransportError, Unconfirmed

if TYPE_CHECKING:
    from millpond.handle import TaskHandle

A = TypeVar("A", bound=RpcAnswer)
TRIES = 3
"""Times that a task is looked for: it may end an attempt and begin the next one while it is asked."""


@dataclass(frozen=True)
class Question(Generic[A]):
    """One request: the verb, its body, what answers it and the seconds that may take.

    `codes` are those of answers that say no and that the asker reads himself.
    """

    verb: str
    ask: Wire
    answer: type[A]
    timeout: float = 5.0
    codes: tuple[str, ...] = ()


async def ask_worker(transport: Transport, worker: Address, question: Question[A]) -> A:
    """What the worker answers, also when that is no (`answer.ok`). WorkerUnreachable when it does not."""
    subject = subjects.rpc(worker.namespace, worker.pool, worker.name, question.verb)
    try:
        answer = await transport.request(subject, question.ask.encode(), timeout=question.timeout)
        return question.answer.decode(answer.body)
    except StreamMissing:
        why = "is not connected to NATS: its pod has ended, or has lost its connection"
    except Unconfirmed as error:
        why = f"did not answer within {question.timeout:g} s ({error}): try again, or look at its pod's log"
    except TransportError as error:
        why = f"could not be asked: {error}"
    except pydantic.ValidationError as error:
        why = f"answered what cannot be read: {error.errors()[0]['msg']}"
    raise WorkerUnreachable(f"worker {worker.name} of pool {worker.pool} {why}")


async def ask_task(handle: "TaskHandle", question: Question[A]) -> A:
    """What the worker that runs the task answers. NotRunning, WorkerUnreachable, WorkerRefused say why it does not.

    The worker where it ran the last time is asked first, and the log only when that is not right any more.
    """
    lost: tuple[str, WorkerUnreachable] | None = None
    for _ in range(TRIES):
        worker = handle.runs_at or await _find_worker(handle)
        if lost and lost[0] == worker:
            raise lost[1]
        handle.runs_at = ""
        try:
            answer = await ask_worker(
                handle.client.transport, Address(handle.client.namespace, handle.pool, worker), question
            )
        except WorkerUnreachable as error:
            lost = worker, error
            continue
        if answer.ok or answer.code in question.codes:
            handle.runs_at = worker
            return answer
        if answer.code != NOT_RUNNING:
            raise WorkerRefused(f"worker {worker} refused {question.verb} for task {handle.id}: {answer.message}")
    raise lost[1] if lost else NotRunning(handle.id, TaskState.RUNNING, "it changes workers just now: ask again")


async def _find_worker(handle: "TaskHandle") -> str:
    """Who runs the task, as its log says; NotRunning names the state in which it is instead."""
    status = await handle.status()
    if status.state == TaskState.RUNNING and status.worker:
        return status.worker
    ended = "it has ended: result() and events() say how" if status.finished else "wait until it runs, then ask again"
    raise NotRunning(handle.id, status.state, ended)
