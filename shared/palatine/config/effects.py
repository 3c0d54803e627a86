"""What each option does here, by effects.txt: a verdict and a reason. Must never unpack the whole table at a start.

The text is read when somebody asks, searched for the few dozen names of a configuration, and let go again.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from palatine.config.plugins import foreign
from palatine.config.table import Kind

IMPLEMENTED: Final = "implemented"
NO_EFFECT: Final = "no effect"
REFUSED: Final = "refused"
NOT_YET: Final = "not yet"

#: By the word in effects.txt.
VERDICTS: Final[Mapping[str, str]] = {"yes": IMPLEMENTED, "moot": NO_EFFECT, "no": REFUSED, "later": NOT_YET}

_FILE: Final = os.path.join(os.path.dirname(__file__), "effects.txt")
_DITTO: Final = '"'


class Effect(NamedTuple):
    """A verdict, and what the option does here, why it does nothing, or what to use instead."""

    verdict: str
    text: str


class Effects:
    """The table, as text; keep it no longer than needed."""

    def __init__(self) -> None:
        with open(_FILE, "rb") as file:
            self._text = file.read()  # bytes: they are searched faster than text

    def of(self, kind: Kind) -> Effect:
        """The effect of an option; KeyError for one without a line, which a test rules out."""
        if kind.language:
            return Effect(REFUSED, foreign("option", kind.name, kind.language))
        at = self._text.find(f"\n{kind.name}\t".encode()) + 1
        if not at:
            raise KeyError(kind.name)
        _, verdict, text = self._line(at)
        while text == _DITTO:
            at = self._text.rindex(b"\n", 0, at - 1) + 1
            _, _, text = self._line(at)
        return Effect(VERDICTS[verdict], text)

    def sections(self) -> Iterator[tuple[str, list[tuple[list[str], Effect]]]]:
        """The whole table: titles, with groups of names that share an effect."""
        title, groups = "", list[tuple[list[str], Effect]]()
        for line in self._text.decode().splitlines():
            if line.startswith("= "):
                if groups:
                    yield title, groups
                title, groups = line[2:], []
            elif line and not line.startswith("#"):
                name, verdict, text = line.split("\t")
                effect = Effect(VERDICTS[verdict], groups[-1][1].text if text == _DITTO else text)
                if text == _DITTO and effect == groups[-1][1]:
                    groups[-1][0].append(name)
                else:
                    groups.append(([name], effect))
        yield title, groups

    def names(self, verdict: str) -> Iterator[str]:
        """The canonical names with a verdict, in the table's order."""
        for _, groups in self.sections():
            for names, effect in groups:
                if effect.verdict == verdict:
                    yield from names

    def _line(self, at: int) -> list[str]:
        return self._text[at : self._text.index(b"\n", at)].decode().split("\t")
