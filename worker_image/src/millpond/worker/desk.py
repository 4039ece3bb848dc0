"""Where a worker's leases are asked for: `call`, `renew`, `checkin` and `drop`, each to the lease that it names.

Owns which leases are here. A client may ask before the worker itself knows that its claim was stored (the feed is
quicker than the claim's own answer), so an ask for a lease whose message is being claimed waits for that. It decides
nothing: `tenancy` answers for its lease, and what is not here is refused as stale.
"""

import asyncio

import pydantic
import structlog
from millpond_api.envelope import Envelope, MalformedTask, parse_envelope
from millpond_api.leases import CALL, CHECK_IN, DROP, LEASE_HANDLER, REFUSED, RENEW, STALE, LeaseAnswer, LeaseAsk
from millpond_api.lifecycle import TaskState
from millpond_api.subjects import HEADER_ENVELOPE, HEADER_LEASE

from millpond.leasing import find_refusal
from millpond.outcomes import Ended, Verdict
from millpond.pausing import happens
from millpond.registry import read_handler
from millpond.transport import Message
from millpond.worker.calling import Job, Run
from millpond.worker.rpc import Verbs
from millpond.worker.shop import Shop
from millpond.worker.tenancy import Tenancy

LEASE = read_handler(LEASE_HANDLER, lambda: None)
"""What every worker has built in. It runs here, not in an executor."""


def is_lease(envelope: Envelope) -> bool:
    return envelope.handler == LEASE_HANDLER


class Desk:
    """The leases of one worker, in the main loop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._expected: dict[str, asyncio.Event] = {}
        self._here: dict[str, Tenancy] = {}
        self._lives: set[asyncio.Task[None]] = set()

    def add_verbs(self, verbs: Verbs) -> None:
        """Serve them."""
        verbs.add(RENEW, LeaseAsk, self._renew)
        verbs.add(CHECK_IN, LeaseAsk, self._check_in)
        verbs.add(DROP, LeaseAsk, self._drop)
        verbs.add_raw(CALL, self._call)

    def expect(self, lease: str) -> None:
        """Its message is here and may be claimed."""
        self._expected[lease] = asyncio.Event()

    def submit(self, job: Job) -> Run:
        """The lease is claimed: it begins."""
        lease = job.envelope.id
        tenancy = job.run = self._here[lease] = Tenancy(self._shop, job)
        life = asyncio.create_task(tenancy.live(), name=f"lease {lease}")
        self._lives.add(life)
        life.add_done_callback(lambda ended: self._on_end(job, ended))
        if lease in self._expected:
            self._expected[lease].set()
        return tenancy

    def _on_end(self, job: Job, life: "asyncio.Task[None]") -> None:
        self._lives.discard(life)
        if not life.cancelled() and (error := life.exception()):
            # A mistake of ours: without a word of its end the slot would be taken for ever.
            structlog.get_logger("millpond.worker").error("a lease broke off", lease=job.envelope.id, exc_info=error)
            job.done(Ended(verdict=Verdict(TaskState.CANCELLED, "Broken", f"{type(error).__name__}: {error}")))

    def forget(self, lease: str) -> None:
        """Its message is dealt with."""
        self._here.pop(lease, None)
        if expected := self._expected.pop(lease, None):
            expected.set()

    async def _renew(self, ask: LeaseAsk) -> LeaseAnswer:
        found = await self._find(ask)
        return self._sign(await found.renew(ask) if found else _refuse(ask))

    async def _check_in(self, ask: LeaseAsk) -> LeaseAnswer:
        found = await self._find(ask)
        return self._sign(found.check_in(ask) if found else _refuse(ask))

    async def _drop(self, ask: LeaseAsk) -> LeaseAnswer:
        found = await self._find(ask)
        return self._sign(found.drop(ask) if found else _refuse(ask))

    async def _call(self, message: Message) -> LeaseAnswer:
        try:
            ask = LeaseAsk.model_validate_json(message.headers.get(HEADER_LEASE, ""))
            envelope = None if ask.again else parse_envelope(message.headers.get(HEADER_ENVELOPE))
        except (pydantic.ValidationError, MalformedTask) as error:
            return LeaseAnswer(ok=False, code=REFUSED, message=f"the call cannot be read: {error}")
        found = await self._find(ask)
        return self._sign(await found.call(ask, envelope, message.body) if found else _refuse(ask))

    async def _find(self, ask: LeaseAsk) -> Tenancy | None:
        expected = self._expected.get(ask.lease)
        if expected and ask.lease not in self._here:
            await happens(expected, self._shop.settings.leases.ttl)
        return self._here.get(ask.lease)

    def _sign(self, answer: LeaseAnswer) -> LeaseAnswer:
        """With how the worker is, so that the owner hears of a drain."""
        return answer.model_copy(update={"state": self._shop.board.state})


def _refuse(ask: LeaseAsk) -> LeaseAnswer:
    return LeaseAnswer(ok=False, code=STALE, message=find_refusal(ask, None, None))
