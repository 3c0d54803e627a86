"""Says in Python's `re` what users have written for PCRE, as uWSGI's options take it. Plain; it must never guess.

What `re` reads as PCRE does passes as it is; what neither knows is left for `re` to refuse.
"""

import re
from typing import Final

#: pcre2pattern(3), "POSIX character classes", in the C locale.
_CLASSES: Final = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "ascii": r"\x00-\x7f",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    "space": r"\t-\r ",
    "upper": "A-Z",
    "word": "a-zA-Z0-9_",
    "xdigit": "0-9A-Fa-f",
}
_ESCAPES: Final = {
    r"\z": r"\Z",
    r"\Z": r"(?=\n?\Z)",
    r"\h": r"[ \t]",
    r"\H": r"[^ \t]",
    r"\R": r"(?:\r\n|[\n-\r])",
    r"\N": r"[^\n]",
    r"\e": r"\x1b",
}
_IN_CLASS: Final = {r"\h": r" \t", r"\R": "R", r"\e": r"\x1b"}
_TOKEN = re.compile(
    r"""
      \\Q (?P<quoted> .*? ) (?: \\E | \Z )
    | (?P<escape> \\. )
    | (?P<set> \[ \^? \]? (?: \[:\^?[a-z]+:\] | \\. | [^\]\\] )* \] )
    | (?P<named> \(\?< (?![=!]) )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_MEMBER = re.compile(r"\[:(\^?)([a-z]+):\]|(\\.)|(\[)", re.DOTALL)


def to_python(pattern: str) -> str:
    """The same expression for `re`; re.error for a class nobody knows, or a negated one."""
    return _TOKEN.sub(_translated, pattern)


def _translated(found: re.Match[str]) -> str:
    kind, text = found.lastgroup, found[0]
    if kind == "quoted":
        return re.escape(found["quoted"])
    if kind == "escape":
        return _ESCAPES.get(text, text)
    if kind == "set":
        return text[0] + _MEMBER.sub(_member, text[1:])
    return "(?P<" if kind == "named" else text


def _member(found: re.Match[str]) -> str:
    negated, name, escape, bracket = found.groups()
    if bracket:
        return r"\["
    if escape:
        return _IN_CLASS.get(escape, escape)
    if negated or name not in _CLASSES:
        raise re.error(f"no class {found[0]} here")
    return _CLASSES[name]
