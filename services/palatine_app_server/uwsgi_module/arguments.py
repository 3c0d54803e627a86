"""Arguments as uWSGI's C functions take them: the same kinds, the same exceptions."""

import operator
from collections.abc import Callable
from typing import Any, Final

#: uWSGI's functions that look at no argument, so that a signal handler or a callback may be one of them.
UNPARSED: Final = frozenset(
    {
        "cl", "connection_fd", "disconnect", "green_schedule", "i_am_the_spooler", "log_this_request", "logsize",
        "masterpid", "mem", "micros", "mule_id", "queue_pop", "queue_pull", "queue_pull_slot", "ready", "ready_fd",
        "reload", "request_id", "signal_received", "spooler_jobs", "spooler_pid", "spooler_pids", "stop", "suspend",
        "total_requests", "websocket_recv", "websocket_recv_nb", "worker_id", "workers",
    }
)  # fmt: skip


def careless(function: Callable[[], Any]) -> Callable[..., Any]:
    """`function` with any arguments, which mean nothing; none by name, as with C functions."""

    def called(*_given: Any) -> Any:
        return function()

    return called


def byte(value: Any) -> int:
    """Format B: a whole number from 0 to 255."""
    number = operator.index(value)
    if not 0 <= number <= 255:
        raise OverflowError(f"unsigned byte integer is {'greater than maximum' if number > 0 else 'less than minimum'}")
    return number


def integer(value: Any, bits: int = 32) -> int:
    """Format i: a whole number of 32 bits, or of others."""
    number = operator.index(value)
    if not -1 << bits - 1 <= number < 1 << bits - 1:
        raise OverflowError(f"signed integer is {'greater than maximum' if number > 0 else 'less than minimum'}")
    return number


def long(value: Any) -> int:
    """Format l: a whole number of 64 bits."""
    return integer(value, 64)


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
