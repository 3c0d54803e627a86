"""As much of a MongoDB server as an insert needs: Debian has none."""

import contextlib
import socket
import struct
import threading
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_REPLY, _QUERY, _MSG = 1, 2004, 2013
_HELLO = {
    "helloOk": True, "isWritablePrimary": True, "ismaster": True, "maxBsonObjectSize": 1 << 24,
    "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000, "minWireVersion": 0, "maxWireVersion": 21, "ok": 1.0,
}  # fmt: skip


class MongoStandIn:
    """Answers hello and insert (OP_QUERY, OP_MSG: MongoDB's wire protocol manual) and keeps what was inserted."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        #: (database.collection, document)
        self.inserted: list[tuple[str, dict[str, Any]]] = []
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
            while header := file.read(_HEADER.size):
                length, number, _, kind = _HEADER.unpack(header)
                body = bson.encode(self._answer(kind, file.read(length - _HEADER.size)))
                prefix = struct.pack("<iqii", 8, 0, 0, 1) if kind == _QUERY else struct.pack("<iB", 0, 0)
                reply = _HEADER.pack(
                    _HEADER.size + len(prefix) + len(body), 0, number, _REPLY if kind == _QUERY else _MSG
                )
                connection.sendall(reply + prefix + body)

    def _answer(self, kind: int, body: bytes) -> dict[str, Any]:
        if kind == _QUERY:
            return _HELLO
        (size,) = struct.unpack_from("<i", body, 5)
        command = bson.decode(body[5 : 5 + size])
        rest = body[5 + size :]
        if "insert" in command:
            documents = command.get("documents") or []
            if rest[:1] == b"\x01":  # a section of documents: size, name, documents
                at = rest.index(b"\0", 5) + 1
                documents = bson.decode_all(rest[at : 1 + struct.unpack_from("<i", rest, 1)[0]])
            self.inserted += [(f"{command['$db']}.{command['insert']}", document) for document in documents]
            return {"n": len(documents), "ok": 1.0}
        return _HELLO if "hello" in command or "ismaster" in command else {"ok": 1.0}
