"""The synchronous client has every word of the asynchronous one, with the same parameters."""

import inspect

import pytest
from millpond import Client, TaskHandle, sync
from millpond.dead import DeadLetters

INNER = {"connect", "window", "check_class", "check_open", "waking", "store", "last", "open_parcel"}
"""What is no word for users, or another one here: a synchronous client is connected by its constructor."""


@pytest.mark.parametrize(
    ("asynchronous", "blocking"),
    [(Client, sync.Client), (TaskHandle, sync.TaskHandle), (DeadLetters, sync.DeadLetters)],
    ids=lambda kind: kind.__name__,
)
def test_every_word_is_there_with_the_same_parameters(asynchronous: type, blocking: type) -> None:
    words = {name for name, found in vars(asynchronous).items() if name[0] != "_" and not isinstance(found, property)}
    words -= INNER
    assert words
    for word in words:
        known = list(inspect.signature(getattr(asynchronous, word)).parameters)
        assert list(inspect.signature(getattr(blocking, word)).parameters) == known, word
