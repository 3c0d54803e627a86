"""The rows of a counter segment, words and texts, from bytes to values; never copies them out of a file itself."""

import struct
import zlib
from typing import Final

from palatine.schema import U64, Table

WORD: Final = 8
_WORD: Final = struct.Struct("=Q")


def text_copy_bytes(capacity: int) -> int:
    """Bytes of one copy in a latch: the mark word and the text, up to the next word."""
    return WORD + -(-capacity // WORD) * WORD


def mark(text: bytes) -> int:
    """The mark word of a text: CRC-32 above, length below."""
    return zlib.crc32(text) << 32 | len(text)


def read_latch(data: bytes | memoryview, offset: int, capacity: int) -> bytes | None:
    """The text of a latch at `offset`, or None if a writer overtook whoever copied these bytes: copy them again."""
    (sequence,) = _WORD.unpack_from(data, offset)
    start = offset + WORD + (sequence & 1) * text_copy_bytes(capacity)
    (marked,) = _WORD.unpack_from(data, start)
    length = marked & 0xFFFF_FFFF
    if length > capacity:
        return None
    text = bytes(data[start + WORD : start + WORD + length])
    return text if marked == mark(text) else None


class RowReader:
    """Turns a row's words into values by field name; made once per table, since a scrape reads thousands of rows."""

    __slots__ = ("_names", "_signed", "_summed", "_words")

    def __init__(self, table: Table) -> None:
        self._words = struct.Struct(f"={len(table.fields)}Q")
        self._names = [field.name for field in table.fields]
        self._signed = [field.name for field in table.fields if field.signed]
        self._summed = [(word, field.name) for word, field in enumerate(table.fields) if field.merge == "sum"]

    def values(self, data: bytes, current: int, other: int | None = None) -> dict[str, int]:
        """The row at offset `current`; `other` is the offset of the same row in the bank that does not serve now."""
        values = dict(zip(self._names, self._words.unpack_from(data, current), strict=True))
        if other is not None:
            words = self._words.unpack_from(data, other)
            for word, name in self._summed:
                values[name] = (values[name] + words[word]) & U64
        for name in self._signed:
            if values[name] >> 63:
                values[name] -= 1 << 64
        return values
