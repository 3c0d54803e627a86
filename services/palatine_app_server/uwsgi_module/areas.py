"""Shared areas: `uwsgi.sharedarea_read` and its kin, bytes and numbers at a position of memory all processes have."""

import contextlib
import operator
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from palatine_app_server.sharing.stores import Area

#: Names of uWSGI's functions and the numbers they read and write, in the machine's byte order.
_NUMBERS = {"8": "b", "byte": "b", "16": "h", "32": "i", "64": "q", "long": "q"}


class Areas:
    """Calls on the areas by number."""

    def __init__(self, areas: Sequence[Area]) -> None:
        self._areas = list(areas)
        self._holders: dict[int, int] = {}  # areas an app has locked, and by which of our threads

    def functions(self) -> dict[str, Any]:
        """What the module offers where an area is configured."""
        offered: dict[str, Any] = {
            "sharedarea_read": self._read,
            "sharedarea_write": self._write,
            "sharedarea_rlock": self._lock,
            "sharedarea_wlock": self._lock,
            "sharedarea_unlock": self._unlock,
            "sharedarea_memoryview": lambda area: self._area("memoryview", area).memory.view,
            "sharedarea_object": lambda area: self._area("object", area).memory.view,
        }
        for suffix, form in _NUMBERS.items():
            offered[f"sharedarea_read{suffix}"] = self._reader(suffix, struct.Struct(f"={form}"))
            offered[f"sharedarea_write{suffix}"] = self._writer(suffix, struct.Struct(f"={form}"))
            if suffix in {"32", "64", "long"}:
                offered[f"sharedarea_inc{suffix}"] = self._adder(f"inc{suffix}", struct.Struct(f"={form}"), +1)
            if suffix in {"32", "64"}:
                offered[f"sharedarea_dec{suffix}"] = self._adder(f"dec{suffix}", struct.Struct(f"={form}"), -1)
        return offered

    def _area(self, function: str, number: int) -> Area:
        index = operator.index(number)
        if not 0 <= index < len(self._areas):
            raise _refusal(function)
        return self._areas[index]

    def _place(self, function: str, area: int, position: int, size: int) -> memoryview:
        view, at = self._area(function, area).memory.view, operator.index(position)
        if at < 0 or at + size > len(view):
            raise _refusal(function)
        return view[at : at + size]

    def _read(self, area: int, position: int, length: int = 0) -> bytes:
        size = operator.index(length) or len(self._area("read", area).memory.view) - operator.index(position)
        with self._held(area):
            return bytes(self._place("read", area, position, size))

    def _write(self, area: int, position: int, data: str | bytes) -> None:
        content = data.encode() if isinstance(data, str) else bytes(data)
        with self._held(area):
            self._place("write", area, position, len(content))[:] = content

    def _reader(self, suffix: str, form: struct.Struct) -> Callable[[int, int], int]:
        def read(area: int, position: int) -> int:
            with self._held(area):
                value: int = form.unpack(self._place(f"read{suffix}", area, position, form.size))[0]
                return value

        return read

    def _writer(self, suffix: str, form: struct.Struct) -> Callable[[int, int, int], None]:
        def write(area: int, position: int, value: int) -> None:
            with self._held(area):
                self._place(f"write{suffix}", area, position, form.size)[:] = _packed(form, operator.index(value))

        return write

    def _adder(self, function: str, form: struct.Struct, sign: int) -> Callable[..., None]:
        def add(area: int, position: int, by: int = 1) -> None:
            with self._held(area):
                place = self._place(function, area, position, form.size)
                place[:] = _packed(form, form.unpack(place)[0] + sign * operator.index(by))

        return add

    # ---------------------------------------------------------------- locks

    def _lock(self, area: int) -> None:
        found = self._area("lock", area)
        found.lock.acquire(None)
        self._holders[operator.index(area)] = threading.get_ident()

    def _unlock(self, area: int) -> None:
        found = self._area("unlock", area)
        self._holders.pop(operator.index(area), None)
        with contextlib.suppress(RuntimeError):  # not held: nothing to do, as with unlock()
            found.lock.release()

    @contextlib.contextmanager
    def _held(self, area: int) -> Iterator[None]:
        """The area's lock, unless the app has taken it in this thread."""
        if self._holders.get(operator.index(area)) == threading.get_ident():
            yield
            return
        lock = self._area("lock", area).lock
        lock.acquire(None)
        try:
            yield
        finally:
            lock.release()


def _packed(form: struct.Struct, value: int) -> bytes:
    """`value` in as many bytes as the form has: what does not fit wraps, as in C."""
    return (value % (1 << 8 * form.size)).to_bytes(form.size, "little")


def _refusal(function: str) -> ValueError:
    return ValueError(f"error calling uwsgi_sharedarea_{function}()")
