"""`/probe?target=`: the metrics of one stats socket, fetched for this request; real uWSGI's count as well as ours.

It connects only where the configuration allows (`probe:` patterns) or to an instance served here: whoever reaches the
page must not be able to make the exporter speak to any address it likes.
"""

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import trio

from palatine.errors import PeerError, ProtocolError
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.reading import APP_KEYS, CORE_KEYS, WORKER_KEYS, Columns, label_number, label_text

#: Seconds for a whole probe, and the most bytes of an answer.
PROBE_SECONDS: Final = 5.0
_MOST_BYTES: Final = 32 * 1024 * 1024
_CHUNK: Final = 65536
_KINDS: Final = {"http", "tcp", "unix"}

Document = Mapping[str, Any]


def allowed(target: str, patterns: Sequence[str]) -> bool:
    """Whether the configuration lets a probe go there; `*` and `?` in patterns as in file names."""
    return any(fnmatchcase(target, pattern) for pattern in patterns)


async def probe(target: str) -> Facts:
    """What the stats socket at `tcp://`, `http://` or `unix://` says; PeerError or ProtocolError if it does not."""
    try:
        with trio.fail_after(PROBE_SECONDS):
            data = await _fetch(target)
    except trio.TooSlowError as error:
        raise PeerError(f"{target}: no answer within {PROBE_SECONDS:g} s", "deadline") from error
    except OSError as error:
        raise PeerError(f"{target}: {error}", "unavailable") from error
    return facts_of(target, data)


def facts_of(target: str, data: bytes) -> Facts:
    """A stats document of uWSGI's as facts; ProtocolError if it is none. Numbers that are no integers read as 0."""
    try:
        document = json.loads(data)
        workers = [worker for worker in document["workers"] if isinstance(worker, dict)]
        return _facts(target, document, _without_twins(workers))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"{target}: not a uWSGI stats document") from error


def _facts(target: str, document: Document, workers: Sequence[Document]) -> Facts:
    cores = max((len(_listed(worker, "cores")) for worker in workers), default=0)
    apps = _listed(workers[0], "apps") if workers else []
    by_worker: dict[str, Sequence[int | str]] = {
        key: [str(worker.get(key, "")) if key == "status" else _number(worker, key) for worker in workers]
        for key in WORKER_KEYS
    }
    flat = [_at(_listed(worker, "cores"), core) for worker in workers for core in range(cores)]
    columns = Columns(
        by_worker,
        {key: [_number(core, key) for core in flat] for key in CORE_KEYS},
        [
            {key: [_number(_at(_listed(worker, "apps"), index), key) for worker in workers] for key in APP_KEYS}
            for index in range(len(apps))
        ],
        {},
    )
    return Facts(
        name=target,
        address=target,
        alive=True,
        server={key: label_number(value) for key, value in document.items() if isinstance(value, int)},
        columns=columns,
        cores=cores,
        apps=[_app(app, index) for index, app in enumerate(apps)],
        sockets=[_row(row) for row in _listed(document, "sockets")],
        caches=[_row(row) for row in _listed(document, "caches")],
        metrics=[{**_row(row), "name": label_text(name)} for name, row in _mapped(document, "metrics").items()],
    )


async def _fetch(target: str) -> bytes:
    where = _split(target)
    async with await _connected(where, target) as stream:
        if where.scheme == "http":
            path = (where.path or "/") + (f"?{where.query}" if where.query else "")
            await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: {where.netloc}\r\n\r\n".encode("ascii", "replace"))
        data = bytearray()
        while chunk := await stream.receive_some(_CHUNK):
            data += chunk
            if len(data) > _MOST_BYTES:
                raise ProtocolError(f"{target}: more than {_MOST_BYTES} bytes")
    return _body(target, bytes(data)) if where.scheme == "http" else bytes(data)


def _split(target: str) -> SplitResult:
    try:
        where = urlsplit(target)
    except ValueError as error:
        raise PeerError(f"{target}: {error}", "bad-request") from error
    if where.scheme not in _KINDS:
        raise PeerError(f"{target}: probes go to tcp://, http:// and unix:// addresses", "bad-request")
    return where


async def _connected(where: SplitResult, target: str) -> trio.SocketStream:
    try:
        if where.scheme == "unix":
            return await trio.open_unix_socket(where.path)
        port = where.port or (80 if where.scheme == "http" else 0)
        return await trio.open_tcp_stream(where.hostname or "127.0.0.1", port)
    except (ValueError, RuntimeError) as error:  # a port beyond all, a path that is none
        raise PeerError(f"{target}: {error}", "bad-request") from error


def _body(target: str, data: bytes) -> bytes:
    head, separator, body = data.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if not separator or len(status) < 2 or status[1] != b"200":
        raise ProtocolError(f"{target}: answered {head[:80]!r}")
    return body


def _without_twins(workers: Sequence[Document]) -> list[Document]:
    """Of workers with the same id the first; ids of slots never used (0) stay, nobody shows them."""
    seen: set[int] = set()
    found = []
    for worker in workers:
        number = _number(worker, "id")
        if number not in seen or not number:
            seen.add(number)
            found.append(worker)
    return found


def _app(said: Document, index: int) -> dict[str, Any]:
    return {
        "id": label_number(said.get("id", index)),
        "modifier1": label_number(said.get("modifier1")),
        "mountpoint": label_text(said.get("mountpoint")),
        "chdir": label_text(said.get("chdir")),
    }


def _row(row: Document) -> dict[str, Any]:
    return {key: label_text(value) if isinstance(value, str) else label_number(value) for key, value in row.items()}


def _listed(value: Document, key: str) -> list[Document]:
    found = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _mapped(value: Document, key: str) -> Mapping[str, Document]:
    found = value.get(key)
    return {name: row for name, row in found.items() if isinstance(row, dict)} if isinstance(found, dict) else {}


def _at(rows: list[Document], index: int) -> Document:
    return rows[index] if index < len(rows) else {}


def _number(row: Document, key: str) -> int:
    return label_number(row.get(key))
