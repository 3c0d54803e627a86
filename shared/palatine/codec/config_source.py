"""Configuration text that remembers where each character came from. Must never read anything: text in, places out.

Magic variables (`%d`, `%n`, …) change a file's text before it is parsed, and `inject-before` puts other files
around it, so a parser's offsets lie. `Source.place` turns them back into file, line and column.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from palatine.errors import ConfigError

#: No configuration file, and no text magic variables make of one, may be longer (characters).
MAX_TEXT = 1 << 20


class Origin(NamedTuple):
    """Where an option was written: a file's path (or words such as "command line"), line, column (from 1; 0: none)."""

    path: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.path, *(str(n) for n in (self.line, self.column) if n)])

    def error(self, message: str) -> ConfigError:
        """The error to raise about this place."""
        return ConfigError(message, self.path, self.line, self.column)


class Entry(NamedTuple):
    """One `name = value` of a configuration file; `value` is None for a bare command line flag."""

    name: str
    value: str | None
    origin: Origin


class Piece(NamedTuple):
    """A run of text of one file, starting at its first character."""

    path: str
    text: str


class _Mark(NamedTuple):
    at: int  # offset in the expanded text from which on …
    piece: int  # … characters come from this piece …
    start: int  # … beginning at this offset of it


class Source:
    """Expanded text, and for each of its characters the place in the pieces it was made of."""

    def __init__(self, pieces: Sequence[Piece], text: str, marks: Sequence[_Mark]) -> None:
        self.text = text
        self._pieces = pieces
        self._marks = marks
        self._starts = [mark.at for mark in marks]
        self._counted = (0, 0, 1)  # piece, offset and line `place` was asked about last: parsers ask in order

    def place(self, offset: int) -> Origin:
        """File, line and column of the character at `offset` of the expanded text."""
        mark = self._marks[max(bisect_right(self._starts, offset) - 1, 0)]
        piece = self._pieces[mark.piece]
        at = min(mark.start + max(offset - mark.at, 0), len(piece.text))
        number, start, line = self._counted
        if number != mark.piece or start > at:
            start, line = 0, 1
        line += piece.text.count("\n", start, at)
        self._counted = (mark.piece, at, line)
        return Origin(piece.path, line, at - piece.text.rfind("\n", 0, at))

    def error(self, message: str, offset: int) -> ConfigError:
        """The error to raise about the character at `offset`."""
        return self.place(offset).error(message)


def expand_magic(pieces: Sequence[Piece], variable: Callable[[str], str] | None) -> Source:
    """Join `pieces`, replacing each `%x` by `variable("x")`; with None nothing is replaced.

    As in uWSGI `%%` is a percent sign, `%(` stays for placeholders, and a `%x` nobody defines disappears together
    with its `x`, whatever that is. Raises ConfigError where the result would exceed MAX_TEXT.
    """
    out: list[str] = []
    marks: list[_Mark] = []
    size = 0
    for number, piece in enumerate(pieces):
        for start, chunk in _chunks(piece.text, variable):
            marks.append(_Mark(size, number, start))
            out.append(chunk)
            size += len(chunk)
            if size > MAX_TEXT:
                raise Origin(piece.path).error(f"the configuration is longer than {MAX_TEXT} characters")
    return Source(pieces, "".join(out), marks or [_Mark(0, 0, 0)])


def _chunks(text: str, variable: Callable[[str], str] | None) -> list[tuple[int, str]]:
    chunks: list[tuple[int, str]] = []
    at = 0
    while variable and (percent := text.find("%", at)) >= 0:
        if percent > at:
            chunks.append((at, text[at:percent]))
        name = text[percent + 1 : percent + 2]
        value = {"%": "%", "(": "%("}.get(name)
        chunks.append((percent, variable(name) if value is None and name else value or ""))
        at = percent + 2
    if at < len(text):
        chunks.append((at, text[at:]))
    return chunks
