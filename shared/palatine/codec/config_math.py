"""References inside values, `$(…)`, `@(…)` and `%(…)`, and the arithmetic of the last. Pure text in, text out."""

from collections.abc import Callable, Iterator
from typing import Final

from palatine.errors import ConfigError

#: A value that still grows after so many replacements refers to itself.
MAX_REPLACEMENTS: Final = 1000
MAX_VALUE: Final = 1 << 20

_LOWEST: Final = -(1 << 63)
_HIGHEST: Final = (1 << 63) - 1

Lookup = Callable[[str], str | None]


def expand(value: str, symbol: str, lookup: Lookup) -> Iterator[str]:
    """Replace each `symbol(key)` in `value` by `lookup(key)`, innermost and leftmost first; None leaves it as it is.

    Yields the value after each replacement, because a value may refer to what has become of itself. As in uWSGI a
    replaced text is looked at again, except for its first character when it begins the value. Raises ConfigError
    where that does not end.
    """
    start = 0
    for _ in range(MAX_REPLACEMENTS):
        found = _next_reference(value, symbol, start, lookup)
        if found is None:
            return
        begin, end, text = found
        value = value[:begin] + text + value[end:]
        if len(value) > MAX_VALUE:
            raise ConfigError(f"a value grows past {MAX_VALUE} characters: does {symbol}(…) refer to itself?")
        yield value
        start = 1
    raise ConfigError(f"{symbol}(…) is replaced more than {MAX_REPLACEMENTS} times: does it refer to itself?")


def _next_reference(value: str, symbol: str, start: int, lookup: Lookup) -> tuple[int, int, str] | None:
    """The first reference from `start` that `lookup` knows, as (begin, end, its text)."""
    at = value.find(symbol, start)
    while at >= 0:
        if value[at + 1 : at + 2] != "(":
            at = value.find(symbol, at + 1)
            continue
        end = _closing(value, symbol, at + 2)
        if end < 0:
            return None
        if value[end] == ")":
            key = value[at + 2 : end]
            text = lookup(key) if key else None
            if text is not None:
                return at, end + 1, text
            end += 1
        at = value.find(symbol, end)
    return None


def _closing(value: str, symbol: str, at: int) -> int:
    """Where the parenthesis opened before `at` closes, or where an inner reference begins, or -1."""
    depth = 0
    for position in range(at, len(value)):
        char = value[position]
        if char == symbol:
            return position
        if char == "(":
            depth += 1
        elif char == ")":
            if not depth:
                return position
            depth -= 1
    return -1


def evaluate(expression: str, get: Lookup) -> str | None:
    """What `%(expression)` stands for: a placeholder's value, or with blanks in it a small left-to-right sum.

    Numbers stand for themselves, other words for placeholders ("" where unknown), words side by side are joined,
    `+ - * /` combine what is left of them with the next word, `++` and `--` count by one. Integers are 64 bit.
    """
    if " " not in expression:
        return get(expression)
    current: str | None = None
    operator = ""
    for word in expression.split(" "):
        if not word:
            continue
        if word in {"+", "-", "*", "/"}:
            operator = word
        elif word in {"++", "--"}:
            if current is not None:
                current = str(_wrap(leading_int(current) + (1 if word == "++" else -1)))
            operator = ""
        else:
            operand = word if is_digits(word) else get(word) or ""
            current = _combine(current or "", operator, operand)
            operator = ""
    return current


def _combine(left: str, operator: str, right: str) -> str:
    if not operator:
        return left + right
    a, b = leading_int(left), leading_int(right)
    if operator == "+":
        return str(_wrap(a + b))
    if operator == "-":
        return str(_wrap(a - b))
    if operator == "*":
        return str(_wrap(a * b))
    if b == 0:
        return "0"
    return str(_wrap(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)))


def is_digits(text: str) -> bool:
    """Whether `text` is ASCII digits only (also when empty, as uWSGI has it)."""
    return all("0" <= char <= "9" for char in text)


def leading_int(text: str) -> int:
    """The integer `text` begins with, as C's strtoll: 0 where there is none, clamped to 64 bit."""
    text = text.lstrip(" \t\n\v\f\r")
    sign = -1 if text[:1] == "-" else 1
    digits = text[1:] if text[:1] in {"-", "+"} else text
    length = 0
    while length < len(digits) and "0" <= digits[length] <= "9":
        length += 1
    digits = digits[:length].lstrip("0")
    # 20 digits are past 64 bit already, and Python refuses to read thousands of them
    number = int(digits[:20] or "0")
    return max(_LOWEST, min(_HIGHEST, sign * number))


def _wrap(number: int) -> int:
    return (number - _LOWEST) % (1 << 64) + _LOWEST
