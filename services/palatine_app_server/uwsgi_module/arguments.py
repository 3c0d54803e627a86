"""Arguments as uWSGI's C functions take them: the same kinds, the same exceptions."""

import operator
from typing import Any


def byte(value: Any) -> int:
    """Format B: a whole number from 0 to 255."""
    number = operator.index(value)
    if not 0 <= number <= 255:
        raise OverflowError(f"unsigned byte integer is {'greater than maximum' if number > 0 else 'less than minimum'}")
    return number


def text(value: Any, function: str, position: int = 1) -> str:
    """Format s: text."""
    if not isinstance(value, str):
        raise TypeError(f"{function}() argument {position} must be str, not {type(value).__name__}")
    return value


def data(value: Any, function: str, position: int = 1) -> bytes:
    """Format s#: text, which becomes UTF-8, or bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"{function}() argument {position} must be str or bytes-like object, not {type(value).__name__}")


def divided(number: int, by: int) -> int:
    """Division as C does it: towards zero; by nothing, uWSGI makes it nothing."""
    if not by:
        return 0
    quotient = abs(number) // abs(by)
    return quotient if (number < 0) == (by < 0) else -quotient
