"""A text with columns of values in it, made again and again; knows nothing of what the values mean.

A column that has not moved yet is baked into the text around it. The first time it moves the text is cut anew, and from
then on it is one of the moving ones: they are kept in one list in the order of the text, into which a column that
moved is put by one slice, and one `%` makes the text (40 ns a value, and no object made for it, which is what counts
when the caches have forgotten everything).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

#: Marks the place of a value.
MARK: Final = b"\x01"


class Part(NamedTuple):
    """Which of a text's places are filled from which values of a column."""

    places: slice
    values: slice


class Template:
    """A text with places, and the columns that fill them. Used by one thread."""

    def __init__(self, text: bytes, columns: Sequence[Sequence[Part]]) -> None:
        """Each MARK in `text` is a place; each column is said by its parts, which together fill every place."""
        self._texts = text.replace(b"%", b"%%").split(MARK)
        self._parts = columns
        self._known: list[Sequence[Any]] = [()] * len(columns)
        self._moving: dict[int, list[Part]] = {}
        self._template = b""
        self._values: list[Any] = []
        self._text = b""

    def filled(self, columns: Sequence[Sequence[Any]]) -> bytes:
        """The text with these columns (integers, or bytes put in as they are).

        A column that has not moved must be the same object as the last time.
        """
        known, moving = self._known, self._moving
        moved = [column for column, values in enumerate(columns) if values is not known[column]]
        if not moved and self._text:
            return self._text
        self._known = list(columns)
        if not self._template:
            self._bake([], columns)
        elif not moving.keys() >= set(moved):
            self._bake(sorted({*moved, *moving}), columns)
        else:
            values = self._values
            for column in moved:
                for places, taken in moving[column]:
                    values[places] = columns[column][taken]
        self._text = self._template % tuple(self._values)
        return self._text

    def _bake(self, moving: list[int], columns: Sequence[Sequence[Any]]) -> None:
        """Cut the text at the places of the moving columns."""
        places: list[Any] = [b""] * (len(self._texts) - 1)
        moves = bytearray(len(places))
        for column, parts in enumerate(self._parts):
            for at, taken in parts:
                places[at] = columns[column][taken]
                if column in moving:
                    moves[at] = bytes([1]) * len(range(*at.indices(len(moves))))
        pieces = [self._texts[0]]
        for value, moved, following in zip(places, moves, self._texts[1:], strict=True):
            pieces += [_place(value) if moved else _baked(value), following]
        self._template = b"".join(pieces)
        self._values = [value for value, moved in zip(places, moves, strict=True) if moved]
        ranks = _ranks(moves)
        self._moving = {
            column: [Part(_narrowed(at, ranks), taken) for at, taken in self._parts[column]] for column in moving
        }


def parts(places: Sequence[int], values: Sequence[int]) -> list[Part]:
    """Parts that fill these places from these values, one where both go by even steps."""
    if _even(places) and _even(values):
        return [Part(_stepping(places), _stepping(values))]
    return [Part(slice(at, at + 1), slice(value, value + 1)) for at, value in zip(places, values, strict=True)]


def _even(numbers: Sequence[int]) -> bool:
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    return step > 0 and list(numbers) == list(range(numbers[0], numbers[-1] + 1, step))


def _stepping(numbers: Sequence[int]) -> slice:
    return slice(numbers[0], numbers[-1] + 1, numbers[1] - numbers[0] if len(numbers) > 1 else 1)


def _narrowed(at: slice, ranks: Sequence[int]) -> slice:
    """The same places, counting moving ones only."""
    return _stepping(ranks[at])


def _ranks(moves: bytearray) -> list[int]:
    """How many moving places come before each."""

    def counted() -> Iterator[int]:
        count = 0
        for moved in moves:
            yield count
            count += moved

    return list(counted())


def _place(value: Any) -> bytes:
    return b"%b" if isinstance(value, bytes) else b"%d"


def _baked(value: Any) -> bytes:
    return value.replace(b"%", b"%%") if isinstance(value, bytes) else b"%d" % value
