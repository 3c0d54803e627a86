"""PCRE2 itself, by ctypes, for the regexps RE2 has no words for; a match never costs more than its limit.

Nearly every Linux system carries libpcre2-8 (Debian's essential packages need it). Without it `library()` is None and
such rules are refused by name.
"""

import ctypes
import ctypes.util
import functools
import weakref
from collections.abc import Callable
from typing import Final

#: Backtracking steps one line may cost, about 5 ms; uWSGI's 10 million let one line hold its master for a second.
MATCH_LIMIT: Final = 250_000
DEPTH_LIMIT: Final = 10_000
#: KiB of heap one match may use.
HEAP_LIMIT: Final = 4096

_NEWLINE_LF: Final = 2
_NO_MATCH: Final = -1
_MESSAGE_BYTES: Final = 256


class Pcre2Error(Exception):
    """PCRE2 refused a pattern, or gave a line up; the text is its own."""


class Library:
    """The loaded libpcre2-8 with the calls this module uses."""

    def __init__(self, path: str) -> None:
        self._lib = ctypes.CDLL(path)
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
        self._compile = self._function(
            "compile",
            pointer,
            [ctypes.c_char_p, size, number, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(size), pointer],
        )
        self._match = self._function(
            "match", ctypes.c_int, [pointer, ctypes.c_char_p, size, size, number, pointer, pointer]
        )
        self._message = self._function("get_error_message", ctypes.c_int, [ctypes.c_int, ctypes.c_char_p, size])
        self._new_data = self._function("match_data_create", pointer, [number, pointer])
        self.free_code = self._function("code_free", None, [pointer])
        self.free_data = self._function("match_data_free", None, [pointer])
        self._compile_context = self._function("compile_context_create", pointer, [pointer])(None)
        self._function("set_newline", ctypes.c_int, [pointer, number])(self._compile_context, _NEWLINE_LF)
        self._match_context = self._function("match_context_create", pointer, [pointer])(None)
        for name, limit in (("match", MATCH_LIMIT), ("depth", DEPTH_LIMIT), ("heap", HEAP_LIMIT)):
            self._function(f"set_{name}_limit", ctypes.c_int, [pointer, number])(self._match_context, limit)

    def compile(self, pattern: bytes) -> "Program":
        """Compile `pattern` without flags; Pcre2Error with PCRE2's own words and the offset."""
        code, offset = ctypes.c_int(), ctypes.c_size_t()
        program = self._compile(
            pattern, len(pattern), 0, ctypes.byref(code), ctypes.byref(offset), self._compile_context
        )
        if not program:
            raise Pcre2Error(f"{self.message(code.value)} at offset {offset.value}")
        return Program(self, program)

    def run(self, program: int, data: int, line: bytes) -> int:
        """pcre2_match() from the start of `line`: below 0 for no match or an error."""
        result: int = self._match(program, line, len(line), 0, 0, data, self._match_context)
        return result

    def match_data(self) -> int:
        """A place for the result of one match at a time."""
        data: int = self._new_data(1, None)
        return data

    def message(self, code: int) -> str:
        """PCRE2's words for an error code."""
        text = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._message(code, text, _MESSAGE_BYTES)
        return text.value.decode("ascii", "replace")

    def _function(self, name: str, result: type | None, arguments: list[type]) -> Callable[..., int]:
        function = self._lib[f"pcre2_{name}_8"]
        function.restype = result
        function.argtypes = arguments
        return function


class Program:
    """A compiled pattern. For one thread; freed with the object."""

    def __init__(self, library: Library, program: int) -> None:
        self._library = library
        self._program = program
        self._data = library.match_data()
        weakref.finalize(self, library.free_code, program)
        weakref.finalize(self, library.free_data, self._data)

    def search(self, line: bytes) -> bool:
        """Whether the pattern is found in `line`; Pcre2Error where PCRE2 gave up (a limit, invalid text)."""
        result = self._library.run(self._program, self._data, line)
        if result >= 0:
            return True
        if result == _NO_MATCH:
            return False
        raise Pcre2Error(self._library.message(result))


@functools.cache
def library() -> Library | None:
    """The system's libpcre2-8, None where there is none."""
    for path in ("libpcre2-8.so.0", ctypes.util.find_library("pcre2-8")):
        if path is None:
            continue
        try:
            return Library(path)
        except (OSError, AttributeError):
            continue
    return None
