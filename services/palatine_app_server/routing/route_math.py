"""`${math[...]}`: the arithmetic of GNU libmatheval, which uWSGI's matheval plugin calls. Text in, a number out.

What a client sends may stand in it: it can neither nest nor grow beyond what is bounded here.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

_LONGEST: Final = 1024
_DEEPEST: Final = 32
_TOKEN: Final = re.compile(
    r"\s*(?:([0-9]+\.?[0-9]*(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)|([A-Za-z_]\w*)|(.))"
)
_NUMBER: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONSTANTS: Final = {
    "e": math.e, "log2e": math.log2(math.e), "log10e": math.log10(math.e), "ln2": math.log(2), "ln10": math.log(10),
    "pi": math.pi, "pi_2": math.pi / 2, "pi_4": math.pi / 4, "1_pi": 1 / math.pi, "2_pi": 2 / math.pi,
    "2_sqrtpi": 2 / math.sqrt(math.pi), "sqrt2": math.sqrt(2), "sqrt1_2": math.sqrt(0.5),
}  # fmt: skip
_FUNCTIONS: Final[Mapping[str, Callable[[float], float]]] = {
    **{name: getattr(math, name) for name in (
        "exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh",
        "atanh", "erf",
    )},
    "abs": abs, "step": lambda x: float(x >= 0),
}  # fmt: skip


class _Wrong(Exception):  # noqa: N818 - never leaves this module
    """The expression is none."""


def evaluate(expression: str, variable: Callable[[str], str]) -> str:
    """The value of `expression`, cut to a whole number; "" where it has none. `variable` gives a request's by name."""
    if len(expression) > _LONGEST:
        return ""
    try:
        return str(int(_Parser(expression, variable).value()))
    except (_Wrong, ArithmeticError, ValueError):  # ValueError: sqrt(-1), and int() of a NaN
        return ""


class _Parser:
    """Recursive descent; all of it binds to the left, powers too."""

    def __init__(self, text: str, variable: Callable[[str], str]) -> None:
        self._tokens = [found for found in _TOKEN.findall(text) if any(found)]
        self._at = 0
        self._depth = 0
        self._variable = variable

    def value(self) -> float:
        """Of the whole text."""
        value = self._sum()
        if self._at < len(self._tokens):
            raise _Wrong
        return value

    def _takes(self, signs: str) -> str:
        sign = self._tokens[self._at][2] if self._at < len(self._tokens) else ""
        if not sign or sign not in signs:
            return ""
        self._at += 1
        return sign

    def _sum(self) -> float:
        value = self._product()
        while sign := self._takes("+-"):
            other = self._product()
            value = value + other if sign == "+" else value - other
        return value

    def _product(self) -> float:
        value = self._signed()
        while sign := self._takes("*/"):
            other = self._signed()
            value = value * other if sign == "*" else value / other
        return value

    def _signed(self) -> float:
        negative = False
        while self._takes("-"):
            negative = not negative
        value = self._power()
        return -value if negative else value

    def _power(self) -> float:
        value = self._atom()
        while self._takes("^"):
            negative = bool(self._takes("-"))
            exponent = self._atom()
            value = math.pow(value, -exponent if negative else exponent)
        return value

    def _atom(self) -> float:
        if self._takes("("):
            return self._rest_of_brackets()
        if self._at >= len(self._tokens):
            raise _Wrong
        number, name, sign = self._tokens[self._at]
        self._at += 1
        if sign:
            raise _Wrong
        if number:
            return float(number)
        if self._takes("("):
            function = _FUNCTIONS.get(name)
            if function is None:
                raise _Wrong
            return function(self._rest_of_brackets())
        return _CONSTANTS.get(name, _of_text(self._variable(name)))

    def _rest_of_brackets(self) -> float:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Wrong
        value = self._sum()
        if not self._takes(")"):
            raise _Wrong
        self._depth -= 1
        return value


def _of_text(text: str) -> float:
    """As strtod(3) reads it: what does not begin with a number is 0."""
    found = _NUMBER.match(text)
    return float(found[0]) if found else 0.0
