"""What the values of many options are made of: pairs, numbers, regular expressions. ConfigError says what is wrong.

The place is added by whoever knows the option: `Option.parsed`, `Settings.each`.
"""

import re
from collections.abc import Callable
from typing import AnyStr

from palatine.errors import ConfigError


def pair(text: str, form: str) -> tuple[str, str]:
    """The two sides of the first `=`; ConfigError that says what `form` it takes."""
    first, equals, second = text.partition("=")
    if not equals or not second:
        raise ConfigError(f"{text!r}: it takes {form}")
    return first, second


def whole_number(text: str, minimum: int | None = None, *, key: str = "") -> int:
    """`text` as an integer, at least `minimum`; where it is one of several, `key` names it in the error."""
    said = f"{key}={text}" if key else text
    try:
        number = int(text)
    except ValueError as error:
        raise ConfigError(f"{said}: this is not a number") from error
    if minimum is not None and number < minimum:
        raise ConfigError(f"{said}: it must be at least {minimum}")
    return number


def pattern(text: str) -> "re.Pattern[str]":
    """`text` as a compiled regular expression."""
    return compiled(text, str)


def compiled(text: str, form: Callable[[str], AnyStr]) -> "re.Pattern[AnyStr]":
    """The same over what `form` makes of text: the bytes of a log, the latin-1 of request variables."""
    from palatine.codec.pcre_dialect import to_python  # only where a config has expressions

    try:
        return re.compile(form(to_python(text)))
    except re.error as error:
        raise ConfigError(f"{text!r} is not a regular expression: {error}") from error
