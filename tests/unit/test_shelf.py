"""The shelf: what lies there, what goes back when, and that nothing on it looks like work of the worker."""

from hypothesis import given
from hypothesis import strategies as st
from millpond.worker.board import Board
from millpond.worker.delivery import NAK
from millpond.worker.shelf import MISSING_DELAY_MOST, ROOM, TRIES, Shelf, decide_delay
from millpond_api.events import utc_now

Answers = list[tuple[str, bytes]]


def make() -> tuple[Shelf, Board, Answers]:
    answers: Answers = []

    async def answer(reply: str, word: bytes) -> None:
        answers.append((reply, word))

    board = Board(1, [], utc_now())
    return Shelf(board, answer), board, answers


async def test_a_message_that_nobody_can_run_lies_under_lease_and_is_no_work() -> None:
    shelf, board, answers = make()
    assert await shelf.take(7, "reply", "late", 1) is None
    assert (list(board.shelved), board.in_flight, answers) == (["reply"], 0, [])


async def test_an_announcement_hands_back_what_waits_for_it_and_nothing_else() -> None:
    shelf, board, answers = make()
    board.missing.note("t1", "late", "task-1")
    board.missing.note("t2", "other", "")
    await shelf.take(1, "one", "late", 1)
    await shelf.take(2, "two", "other", 1)
    await shelf.hear({"late", "more"})
    assert answers == [("one", NAK)]
    assert list(board.shelved) == ["two"]
    assert board.missing.read() == ({"other": 1}, [])


async def test_what_somebody_else_has_goes_back_at_once_and_later_each_time() -> None:
    shelf, board, answers = make()
    await shelf.hear({"late"})
    delays = [await shelf.take(1, "one", "late", count) for count in (1, 2, 3)]
    assert delays == sorted(delays, key=lambda delay: delay or 0.0)
    assert len(answers) == 3
    assert not board.shelved
    assert await shelf.take(1, "one", "late", TRIES) is None


async def test_the_same_message_again_is_answered_by_its_newest_delivery() -> None:
    shelf, board, answers = make()
    await shelf.take(1, "first", "late", 1)
    await shelf.take(1, "second", "late", 2)
    assert (len(shelf), list(board.shelved)) == (1, ["second"])
    await shelf.empty()
    assert answers == [("second", NAK)]


async def test_after_a_lost_connection_nothing_is_answered_any_more() -> None:
    shelf, board, answers = make()
    await shelf.take(1, "one", "late", 1)
    shelf.forget()
    await shelf.empty()
    assert (answers, list(board.shelved)) == ([], [])


async def test_a_full_shelf_takes_no_more_and_loses_nothing() -> None:
    shelf, board, answers = make()
    for number in range(ROOM):
        await shelf.take(number, f"r{number}", "late", 1)
    assert await shelf.take(ROOM, "more", "late", 1) == 5.0
    assert (len(board.shelved), len(answers)) == (ROOM, 1)


@given(st.integers(1, 10_000), st.booleans(), st.booleans())
def test_a_message_never_comes_back_at_once_nor_after_more_than_a_minute(
    count: int, elsewhere: bool, room: bool
) -> None:
    """No busy loop between two workers that lack it, and no long wait for who has it."""
    delay = decide_delay(count, elsewhere=elsewhere, room=room)
    assert delay is None or 0.1 <= delay <= MISSING_DELAY_MOST
    if room and not elsewhere:
        assert delay is None
