"""Values in parcels, for the messages between a task and those who speak to it: signals, queries, checkpoints. Pure.

Owns their packing and the bounds. It must not decide where a parcel lies. A value that cannot travel is refused before
anything is sent; one that this side has not agreed to read is refused where it is read.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import Any

from millpond_api.events import Parcel

from millpond.codecs import check_codec, get_codec
from millpond.errors import MessageNotSerializable, MessageTooLarge, ResultNotSerializable
from millpond.packing import Habits, Packed, Wrap, open_result


@dataclass(frozen=True, slots=True)
class Parcels:
    """How one side writes and reads them."""

    codec: str = "json"
    habits: Habits = field(default_factory=Habits)

    @classmethod
    def of_task(cls, wrap: Wrap) -> "Parcels":
        """In the codec of the task's arguments."""
        return cls(wrap.codec, wrap.habits)

    def pack(self, what: str, value: Any, limit: int) -> Parcel:
        """`what` names it for people; MessageNotSerializable, or MessageTooLarge above `limit` bytes."""
        check_codec(self.codec, self.habits.codecs, pickle=self.habits.pickle)
        try:
            body = get_codec(self.codec).encode_result(value)
        except ResultNotSerializable as error:
            reason = str(error).removeprefix("the handler returned ")
            raise MessageNotSerializable(f"{what}: {reason}") from None
        if len(body) > limit:
            raise MessageTooLarge(
                f"{what} has {len(body):,} bytes and may have {limit:,}: store it elsewhere and pass on where it is"
            )
        return Parcel(codec=self.codec, size=len(body), data=b64encode(body).decode())

    def open(self, parcel: Parcel | None) -> Any:
        """The value (None: there is none). CodecRefused, CodecMissing, or ValueError for bytes of something else."""
        if parcel is None:
            return None
        return open_result(Packed(b64decode(parcel.data), parcel.codec, parcel.zip, parcel.size), self.habits)
