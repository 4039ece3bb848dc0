"""Dead letters for the command: asked of the SDK over NATS, told as rows and sentences.

Owns the way from the command's options to `client.dead(…)` and what a letter looks like on a terminal. It decides
nothing about a redrive: the SDK does.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from millpond_api.durations import format_duration

from millpond_cli.asking import Place, ask
from millpond_cli.rows import Row, shorten

if TYPE_CHECKING:
    from millpond.client import Client
    from millpond.letters import DeadLetter

COLUMNS = ("TASK", "POOL", "HANDLER", "ATTEMPTS", "REDRIVES", "AGE", "ERROR", "MESSAGE")


@dataclass(frozen=True)
class Which:
    """Which letters the person means; seconds where a time is meant."""

    pool: str = ""
    handler: str = ""
    error: str = ""
    older: float | None = None
    newer: float | None = None
    tasks: tuple[str, ...] = ()

    @property
    def narrows(self) -> bool:
        return self != Which(tasks=())


@dataclass(frozen=True)
class Letter:
    """A dead letter as it is shown. `losses` are sentences on the workers that it took with it."""

    task: str
    pool: str
    handler: str
    attempts: int
    redrives: int
    at: datetime
    error: str
    message: str
    object: str = ""
    traceback: str = ""
    payload: str = ""
    losses: tuple[str, ...] = ()


def read_letters(place: Place, which: Which) -> list[Letter]:
    """Every letter that is meant, oldest first."""

    async def work(client: "Client") -> list[Letter]:
        return [_show(letter) async for letter in client.dead(which.pool).list(_filter(which))]

    return ask(place, work)


def read_letter(place: Place, which: Which) -> Letter:
    """One letter with everything that is known of it."""

    async def work(client: "Client") -> Letter:
        dead = client.dead(which.pool)
        letter = await dead.read(which.tasks[0])
        note = await dead.losses(letter)
        return _show(letter, tuple(_loss(one) for one in note.workers) if note else ())

    return ask(place, work)


def redrive(place: Place, which: Which) -> list[tuple[Letter, str, str]]:
    """Put them back; each letter with what was done (`redriven`, `over`, `refused`) and why."""

    async def work(client: "Client") -> list[tuple[Letter, str, str]]:
        return [(_show(one.letter), one.done, one.why) for one in await client.dead(which.pool).redrive(_filter(which))]

    return ask(place, work)


def purge(place: Place, which: Which) -> list[Letter]:
    """Throw them away."""

    async def work(client: "Client") -> list[Letter]:
        return [_show(letter) for letter in await client.dead(which.pool).purge(_filter(which))]

    return ask(place, work)


def letter_row(letter: Letter, now: datetime) -> Row:
    """One line of `dead list`; a Task object goes by its name."""
    age = format_duration(max(0.0, (now - letter.at).total_seconds()))
    name = letter.object or letter.task
    cells = (name, letter.pool, letter.handler, str(letter.attempts), str(letter.redrives), age, letter.error)
    return Row(letter.task, (*cells, shorten(letter.message, 100)))


def _filter(which: Which) -> Any:
    from millpond.letters import LetterFilter

    older, newer = (None if seconds is None else timedelta(seconds=seconds) for seconds in (which.older, which.newer))
    return LetterFilter(which.handler, which.error, older, newer, which.tasks)


def _show(letter: "DeadLetter", losses: tuple[str, ...] = ()) -> Letter:
    error, envelope = letter.error, letter.envelope
    return Letter(
        task=letter.task,
        pool=letter.pool,
        handler=letter.handler or "?",
        attempts=letter.attempt,
        redrives=envelope.redrives if envelope else 0,
        at=letter.at,
        error=error.type,
        message=error.message,
        object=letter.object,
        traceback=error.traceback,
        payload=letter.stored.body.decode(errors="replace"),
        losses=losses,
    )


def _loss(one: Any) -> str:
    code = "" if one.exit_code is None else f" (exit code {one.exit_code})"
    return f"{one.worker}: {one.reason or 'how it ended is not known'}{code}" + (
        f": {one.message}" if one.message else ""
    )
