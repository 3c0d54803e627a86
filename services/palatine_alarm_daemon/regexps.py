r"""uWSGI's PCRE patterns as bounded matchers: RE2 where it means the same, else PCRE2 with limits. It never guesses.

Translated for RE2, which is linear in the line whatever a tenant writes: `$` and `\Z` also match before a final
newline, `\s` has the vertical tab, `\h` `\v` `\N` exist, groups do not capture. Left to PCRE2: look-around,
back-references, atomic and possessive parts, inline flags, `\Q..\E`, `\R`, `\K`, verbs, recursion and whatever the
lexer of `alarm_regexp` does not know.
"""

import re
from collections.abc import Callable
from typing import Final

import attrs
import re2  # type: ignore[import-untyped]  # google-re2 ships no stubs

from palatine.codec.alarm_regexp import Token, tokenize
from palatine.errors import ConfigError
from palatine_alarm_daemon import pcre2

#: Memory one program may use, its states included; a bigger one goes to PCRE2.
MAX_RE2_BYTES: Final = 2 * 1024 * 1024

_ITEMS: Final = {
    b".": b".",
    rb"\d": rb"\d",
    rb"\D": rb"\D",
    rb"\w": rb"\w",
    rb"\W": rb"\W",
    rb"\s": rb"[\t-\r ]",
    rb"\S": rb"[^\t-\r ]",
    rb"\h": rb"[\t \xa0]",
    rb"\H": rb"[^\t \xa0]",
    rb"\v": rb"[\n-\r\x85]",
    rb"\V": rb"[^\n-\r\x85]",
    rb"\N": rb"[^\n]",
}
#: A class RE2 reads as PCRE does: no `\s`-like escape that differs, no hyphen beside a set.
_SAME_CLASS = re.compile(
    rb"""
    \[\^?\]?
    (?: \[:\^?[a-z]+:\](?!-) | \\[dw](?!-) | \\(?:[nrtfa]|x[0-9a-fA-F]{2}|[ -/:-@\[-^`{-~]) | [^\]\[\\] | \[(?![:.=]) )*
    \]
    """,
    re.VERBOSE | re.DOTALL,
)
_HYPHEN_BEFORE_SET = re.compile(rb"-(?:\[:|\\[dw])")
_END: Final = rb"(?:\n?\z)"

Search = Callable[[bytes], bool]


@attrs.frozen
class Regexp:
    """A compiled pattern: `found(line)` says whether it occurs; `engine` is "re2" or "pcre2"."""

    pattern: bytes
    engine: str
    found: Search = attrs.field(eq=False, repr=False)


def compile_regexp(pattern: bytes) -> Regexp:
    """Compile one `log-alarm` pattern; ConfigError says why no engine takes it."""
    translated = to_re2(pattern)
    if translated is not None:
        try:
            return Regexp(pattern, "re2", _re2_search(translated))
        except re2.error:  # too many repetitions, too big: PCRE2 may still take it, and else has the better words
            pass
    library = pcre2.library()
    if library is None:
        raise ConfigError("RE2 cannot express this regexp and libpcre2-8 is not installed")
    try:
        return Regexp(pattern, "pcre2", library.compile(pattern).search)
    except pcre2.Pcre2Error as error:
        raise ConfigError(str(error)) from error


def to_re2(pattern: bytes) -> bytes | None:
    """`pattern` in RE2's words, None where they could mean something else."""
    tokens = tokenize(pattern)
    if tokens is None:
        return None
    words: list[bytes] = []
    last = _last_places(tokens)
    for index, token in enumerate(tokens):
        word = _END if token.raw in {b"$", rb"\Z"} and last[index + 1] else _word(token)
        if word is None or (token.kind == "repeat" and (index == 0 or tokens[index - 1].kind == "assertion")):
            return None
        words.append(word)
    return b"".join(words)


def _word(token: Token) -> bytes | None:
    kind, raw = token
    if kind == "item":
        return _class(raw) if raw[:1] == b"[" else _ITEMS.get(raw)
    if kind == "assertion":
        return None if raw in {b"$", rb"\Z", rb"\G"} else raw
    if kind == "look" or (kind == "open" and raw == b"(?>") or (kind == "repeat" and raw[-1:] == b"+" and len(raw) > 1):
        return None
    if kind == "open":
        return b"(?:"
    if raw in {rb"\e", rb"\_"}:
        return rb"\x1b" if raw == rb"\e" else b"_"
    return raw


def _class(raw: bytes) -> bytes | None:
    return raw if _SAME_CLASS.fullmatch(raw) and not _HYPHEN_BEFORE_SET.search(raw) else None


def _last_places(tokens: list[Token]) -> list[bool]:
    """For each place between tokens, whether the whole pattern can only end there.

    RE2's stand-in for `$` consumes the newline PCRE only looks at, so nothing may follow it.
    """
    last = [False] * len(tokens) + [True]
    closing = [len(tokens)]  # where the groups around the present token end, the innermost last
    for index in range(len(tokens) - 1, -1, -1):
        kind = tokens[index].kind
        if kind == "close":
            repeated = index + 1 < len(tokens) and tokens[index + 1].kind == "repeat"
            last[index] = last[index + 1] and not repeated
            closing.append(index)
        elif kind == "either":
            last[index] = last[closing[-1]]
        elif kind in {"open", "look"} and len(closing) > 1:
            closing.pop()
    return last


def _re2_search(pattern: bytes) -> Search:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = MAX_RE2_BYTES
    search = re2.compile(pattern, options).search
    return lambda line: search(line) is not None
