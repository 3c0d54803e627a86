"""What may be done to the body of a response on its way: compressed, filled in, copied. Loaded where it is asked for.

A chain of transforms is fed what the app says, piece by piece, and holds back what it must. Framing is the response's.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

Headers = list[tuple[str, str]]

#: A body that has to be whole before it can be changed is not kept beyond this; it goes as it is.
MOST_HELD_BYTES: Final = 16 * 1024 * 1024
_GZIP_WINDOW: Final = 31  # zlib's word for a gzip wrapper


class Transform:
    """One of them, for one response; this one changes nothing."""

    streams: bool = True  # whether it can pass pieces on as they come
    keeps_length: bool = False  # whether as many bytes come out as go in

    def headers(self, headers: Headers) -> Headers:
        """The headers as they are sent."""
        return headers

    def feed(self, data: bytes) -> bytes:
        """What is sent for `data`."""
        return data

    def finish(self, status: int) -> bytes:
        """What is sent behind all the rest of a response with this status."""
        del status
        return b""


class Gzip(Transform):
    """`gzip:`, whatever the client accepts: that is for a condition to say. What is encoded already stays so."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(wbits=_GZIP_WINDOW)
        self._wanted = True

    def headers(self, headers: Headers) -> Headers:
        """See `Transform`."""
        if has(headers, "content-encoding") or has(headers, "content-range"):  # a part's bytes are counted
            self._wanted = False
            return headers
        weak = [(key, f"W/{value}" if key.lower() == "etag" and value[:1] == '"' else value) for key, value in headers]
        return [*weak, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        return self._packer.compress(data) if self._wanted else data

    def finish(self, status: int) -> bytes:
        """See `Transform`."""
        del status
        return self._packer.flush() if self._wanted else b""


class Buffers(Transform):
    """`wsgi-accept-buffer`: an app's pieces may be anything that has bytes."""

    keeps_length = True

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        return bytes(data)


class Upper(Transform):
    """`toupper:`, ASCII letters only."""

    keeps_length = True

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        return data.upper()


class Template(Transform):
    """`template:`: the whole body is a template of the routing's."""

    streams = False

    def __init__(self, expand: Callable[[str], str]) -> None:
        self._expand = expand

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        return self._expand(data.decode("latin-1")).encode("latin-1", "replace")


class ToFile(Transform):
    """`tofile:`: a copy of a 200's body, put in its place when it is complete."""

    keeps_length = True

    def __init__(self, path: str, complain: Callable[[str], None]) -> None:
        self._path = path
        self._complain = complain
        self._part = f"{path}.{os.getpid()}.{id(self)}.part"
        self._fd = -1
        try:
            self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            complain(f"[uwsgi-route] tofile {path}: {error.strerror}")

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        if self._fd >= 0:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]  # a full disk takes some of it
            except OSError as error:
                self._complain(f"[uwsgi-route] tofile {self._path}: {error.strerror}")
                self.__del__()
        return data

    def finish(self, status: int) -> bytes:
        """See `Transform`."""
        if self._fd >= 0 and status == 200 and os.fstat(self._fd).st_size:
            os.close(self._fd)
            self._fd = -1
            os.rename(self._part, self._path)
        return b""

    def __del__(self) -> None:  # also where the client left before the end
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                os.unlink(self._part)


class Copy(Transform):
    """`cachestore:`: tells `keep` the body of a 200, or of a response with `status`, unless it is too long."""

    keeps_length = True

    def __init__(self, status: int, keep: Callable[[bytes], None]) -> None:
        self._status = status
        self._keep = keep
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> bytes:
        """See `Transform`."""
        self._length += len(data)
        if self._length > MOST_HELD_BYTES:
            self._pieces.clear()
        else:
            self._pieces.append(data)
        return data

    def finish(self, status: int) -> bytes:
        """See `Transform`."""
        if self._pieces and status in {200, self._status}:
            self._keep(b"".join(self._pieces))
        return b""


def has(headers: Headers, name: str) -> bool:
    """Whether there is a header of this name, in lower case."""
    return any(key.lower() == name for key, _ in headers)


def prepared(chain: Sequence[Transform], headers: Headers) -> Headers:
    """The headers of a response that goes through `chain`: its length is another."""
    if not all(transform.keeps_length for transform in chain):
        headers = [(key, value) for key, value in headers if key.lower() != "content-length"]
    for transform in chain:
        headers = transform.headers(headers)
    return headers


def feed(chain: Sequence[Transform], data: bytes) -> bytes:
    """What is sent for a piece."""
    for transform in chain:
        data = transform.feed(data)
    return data


def finish(chain: Sequence[Transform], status: int) -> bytes:
    """What is sent at the end: each transform's last word goes through those behind it."""
    data = b""
    for transform in chain:
        data = (transform.feed(data) if data else b"") + transform.finish(status)
    return data


def stream(chain: Sequence[Transform], result: Iterable[bytes], status: Callable[[], int]) -> Iterator[bytes]:
    """`result` through a chain that streams."""
    for piece in result:
        data = feed(chain, piece) if piece else b""
        if data:
            yield data
    yield finish(chain, status())


def whole(chain: Sequence[Transform], result: Iterable[bytes], status: Callable[[], int]) -> Iterator[bytes]:
    """`result` through a chain some of which must see all of it at once; what is too long streams through the rest."""
    held: list[bytes] = []
    length = 0
    pieces = iter(result)
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length > MOST_HELD_BYTES:
            streaming = [transform for transform in chain if transform.streams]
            yield feed(streaming, b"".join(held))
            yield from stream(streaming, pieces, status)
            return
    body = b"".join(held)
    yield (feed(chain, body) if body else b"") + finish(chain, status())
