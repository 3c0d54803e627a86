import pytest

from palatine.bus.events import BATCH_BYTES, BATCH_EVENTS, EVENT_BYTES, WINDOW_BYTES, WINDOW_EVENTS
from palatine.bus.outbox import Item, Outbox


def filled(count: int, size: int = 10, first: int = 1) -> Outbox:
    outbox = Outbox()
    for seq in range(first, first + count):
        outbox.add(Item(seq, b"x" * size))
    return outbox


def numbers(batch: list[Item]) -> list[int]:
    return [item.seq for item in batch]


def test_a_batch_says_what_was_sent_before_it() -> None:
    outbox = filled(BATCH_EVENTS + 2, first=5)
    assert outbox.take() == (0, [Item(seq, b"x" * 10) for seq in range(5, 5 + BATCH_EVENTS)])
    previous, batch = outbox.take()
    assert (previous, numbers(batch)) == (BATCH_EVENTS + 4, [BATCH_EVENTS + 5, BATCH_EVENTS + 6])
    assert outbox.take() == (BATCH_EVENTS + 6, [])


@pytest.mark.parametrize("size", [10, 1000, BATCH_BYTES, EVENT_BYTES])
def test_window_and_batch_are_bounded(size: int) -> None:
    outbox = filled(3 * WINDOW_EVENTS, size) if size < 10_000 else filled(20, size)
    while batch := outbox.take()[1]:
        assert len(batch) <= BATCH_EVENTS
        assert len(batch) == 1 or sum(len(item.raw) for item in batch) <= BATCH_BYTES
    assert outbox.waiting
    assert 0 < len(outbox.flight) <= WINDOW_EVENTS
    assert outbox.flight_bytes <= WINDOW_BYTES
    assert outbox.flight_bytes == sum(len(item.raw) for item in outbox.flight)
    outbox.ack(outbox.flight[0].seq)
    if size >= 1000:
        assert outbox.take()[1]


def test_acks_are_cumulative_and_open_the_window() -> None:
    outbox = filled(10)
    outbox.take()
    assert outbox.ack(4) == 4
    assert outbox.ack(4) == 0
    assert outbox.ack(3) == 0
    assert outbox.acked == 4
    assert outbox.ack(10) == 6
    assert not len(outbox)
    assert (outbox.flight_bytes, outbox.waiting_bytes) == (0, 0)


def test_an_ack_for_what_was_never_sent_is_ignored() -> None:
    outbox = filled(3)
    assert outbox.ack(2) == 0
    outbox.take()
    assert outbox.ack(2**62) == 0
    assert len(outbox) == 3


def test_a_new_session_begins_after_the_last_ack() -> None:
    outbox = filled(6)
    outbox.take()
    outbox.ack(2)
    outbox.rewind()
    assert outbox.waiting_bytes == 40
    assert outbox.ack(3) == 1  # acknowledged late, of the session before
    previous, batch = outbox.take()
    assert (previous, numbers(batch)) == (0, [4, 5, 6])


def test_dropping_spares_what_is_under_way() -> None:
    outbox = filled(2)
    outbox.take()
    outbox.add(Item(3, b"x"))
    outbox.add(Item(4, b"x"))
    assert outbox.drop_oldest() == Item(3, b"x")
    previous, batch = outbox.take()
    assert (previous, numbers(batch)) == (2, [4])
    assert outbox.drop_oldest() is None
