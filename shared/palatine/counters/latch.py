"""The writing end of a text in a segment; a writer killed at any point never makes it unreadable."""

from palatine.codec.segment_rows import WORD, mark, text_copy_bytes
from palatine.schema import U64


class TextLatch:
    """One row's text. One writer at a time; it may be replaced at any moment, also in the middle of `write`."""

    __slots__ = ("_bytes", "_copies", "_words", "capacity")

    def __init__(self, row: memoryview, capacity: int) -> None:
        """`row` is the latch's bytes: sequence word and two copies."""
        self._bytes = row
        self._words = row.cast("Q")
        self.capacity = capacity
        self._copies = (WORD, WORD + text_copy_bytes(capacity))

    def write(self, data: bytes) -> None:
        """Replace the text by `data`, cut to the capacity in bytes; b"" empties it."""
        if len(data) > self.capacity:
            data = data[: self.capacity]
        words = self._words
        sequence = words[0] + 1
        start = self._copies[sequence & 1]  # the copy nobody reads
        text = start + WORD
        self._bytes[text : text + len(data)] = data
        words[start // WORD] = mark(data)
        words[0] = sequence & U64
