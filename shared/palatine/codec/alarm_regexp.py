"""Reads PCRE-style regexps far enough to say what every match contains. Plain; it must never guess.

What it does not know for sure is opaque: no literal is required then.
Dialect: PCRE2 without flags, over bytes, as uWSGI compiles `log-alarm` patterns (case-sensitive, unanchored).
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

#: Longer ones are opaque; uWSGI never matched lines longer than this.
MAX_PATTERN_BYTES: Final = 8192
#: Groups nested deeper than this are opaque: nobody writes them, and the reader is recursive.
MAX_DEPTH: Final = 60
#: An alternation with more branches than this costs more to look for than it saves.
MAX_LITERALS: Final = 32

_CONTROL: Final = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"f": b"\f", b"a": b"\a", b"e": b"\x1b"}

# Possessive where a second reading would turn one pattern into another; whatever matches nothing here is opaque.
_TOKEN = re.compile(
    rb"""
      (?P<item>      \. | \\[dDsSwWhHvVR] | \\N(?!\{)
                   | \[\^?+\]?+ (?: [^\]\[\\] | \[(?![:.=]) | \[:\^?[a-z]++:\]
                                   | \\(?:[dDsSwWhvnrtfae] | x[0-9a-fA-F]{2} | [ -/:-@\[-`{-~]) )*+ \] )
    | (?P<escaped>   \\[ -/:-@\[-`{-~] )
    | (?P<control>   \\[ntrfae] )
    | (?P<hex>       \\x[0-9a-fA-F]{2} )
    | (?P<assertion> \^ | \$ | \\[bBAzZG] )
    | (?P<look>      \(\?<?[=!] )
    | (?P<open>      \((?:\?: | \?> | \?P?<[A-Za-z_][A-Za-z0-9_]{0,30}> )?(?![?*]) )
    | (?P<close>     \) )
    | (?P<either>    \| )
    | (?P<repeat>    (?:[*+?] | \{[0-9]{1,5}(?:,[0-9]{0,5})?\})[?+]? )
    | (?P<literal>   [^\\^$.|()*+?\[{] | \{(?![\s0-9,]*\}) )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One piece of a regexp: its kind (a group name of the lexer) and its bytes as written."""

    kind: str
    raw: bytes


class _Part(NamedTuple):
    """What a part of a regexp consumes, always the same (None: it varies), or literals of which every match has one."""

    exact: bytes | None
    need: frozenset[bytes] | None = None

    def literals(self) -> frozenset[bytes] | None:
        return frozenset({self.exact}) if self.exact else self.need


class _OpaqueError(Exception):
    """The pattern uses something this module does not read."""


def tokenize(pattern: bytes) -> list[Token] | None:
    """The tokens of `pattern`, which joined are the pattern; None where it holds anything this lexer does not know."""
    if len(pattern) > MAX_PATTERN_BYTES:
        return None
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        found = _TOKEN.match(pattern, at)
        if found is None or found.lastgroup is None:
            return None
        tokens.append(Token(found.lastgroup, found[0]))
        at = found.end()
    return tokens


def required_literals(pattern: bytes) -> frozenset[bytes] | None:
    """Byte strings of which at least one occurs in everything `pattern` matches; None if none is known for sure."""
    tokens = tokenize(pattern)
    if tokens is None:
        return None
    reader = _Reader(tokens)
    try:
        return reader.whole().literals()
    except _OpaqueError:
        return None


class _Reader:
    """A recursive descent over the tokens; one use."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def whole(self) -> _Part:
        part = self._alternation(0)
        if self._at < len(self._tokens):  # a `)` too many
            raise _OpaqueError
        return part

    def _alternation(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise _OpaqueError
        branches = [self._sequence(depth)]
        while self._peek() == "either":
            self._at += 1
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        return _Part(None, _either(branch.literals() for branch in branches))

    def _sequence(self, depth: int) -> _Part:
        collected = _Collected()
        while self._peek() not in {"", "either", "close"}:
            collected.add(self._atom(depth), self._least())
        return collected.part()

    def _atom(self, depth: int) -> _Part:
        kind, raw = self._tokens[self._at]
        self._at += 1
        if kind == "item":
            return _Part(None)
        if kind == "assertion":
            return _Part(b"")
        if kind in {"open", "look"}:
            inner = self._alternation(depth + 1)
            if self._peek() != "close":
                raise _OpaqueError
            self._at += 1
            return inner if kind == "open" else _Part(b"")
        if kind == "repeat":  # nothing stands before it: not a regexp
            raise _OpaqueError
        return _Part(literal_bytes(kind, raw))

    def _least(self) -> int | None:
        """How often the atom just read must occur, None without a quantifier."""
        if self._peek() != "repeat":
            return None
        raw = self._tokens[self._at].raw
        self._at += 1
        if raw[:1] == b"{":
            return int(re.split(rb"[,}]", raw[1:])[0])
        return 1 if raw[:1] == b"+" else 0

    def _peek(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""


def literal_bytes(kind: str, raw: bytes) -> bytes:
    """What a token of kind literal, escaped, control or hex stands for."""
    if kind == "literal":
        return raw
    if kind == "control":
        return _CONTROL[raw[1:]]
    return bytes([int(raw[2:].decode(), 16)]) if kind == "hex" else raw[1:]


class _Collected:
    """Adds up the parts of one sequence: the run of adjoining literals, and the best requirement so far."""

    def __init__(self) -> None:
        self._run = b""
        self._best: frozenset[bytes] | None = None
        self._constant = True

    def add(self, part: _Part, least: int | None) -> None:
        if least == 0:
            self._break_run()
        elif part.exact is None:
            self._break_run()
            self._offer(part.need)
        else:
            self._run += part.exact
            if least is not None:  # more of the same may follow, so what comes next need not adjoin
                self._break_run()

    def part(self) -> _Part:
        if self._constant:
            return _Part(self._run)
        self._break_run()
        return _Part(None, self._best)

    def _break_run(self) -> None:
        self._constant = False
        if self._run:
            self._offer(frozenset({self._run}))
        self._run = b""

    def _offer(self, need: frozenset[bytes] | None) -> None:
        if need and (self._best is None or _worth(need) > _worth(self._best)):
            self._best = need


def _worth(need: frozenset[bytes]) -> tuple[int, int]:
    """The longer the shortest literal the rarer it is in a log; the fewer the cheaper."""
    return min(map(len, need)), -len(need)


def _either(branches: Iterator[frozenset[bytes] | None]) -> frozenset[bytes] | None:
    united: set[bytes] = set()
    for need in branches:
        if not need:
            return None
        united |= need
    return frozenset(united) if len(united) <= MAX_LITERALS else None
