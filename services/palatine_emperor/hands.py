"""Carries out what the vassals' policy decided: pipes, sockets and orders to the keeper; must never decide itself."""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Final

import attrs
import trio

from palatine.codec import emperor_pipe
from palatine.codec.keeper import CONFIG, PIPE, SOCKET, Adopt, Forget, Hold, Note, Signal, Spawn
from palatine.errors import ConfigError, ProtocolError
from palatine_emperor import vassal as life
from palatine_emperor.keeper_link import KeeperLink
from palatine_emperor.on_demand import bind_socket
from palatine_emperor.vassal import Action, Event, Vassal, Wanted
from palatine_emperor.vassal_note import write_note

_READ_BYTES: Final = 4096


@attrs.define
class Wires:
    """The emperor's descriptors of one vassal by part name, and what was read from its pipe so far."""

    parts: dict[str, int] = attrs.field(factory=dict)
    reader: emperor_pipe.VassalReader = attrs.field(factory=emperor_pipe.VassalReader)
    born: int = 0
    note: str = ""
    unsent: dict[int, bytearray] = attrs.field(factory=dict)

    def take(self, part: str, descriptor: int) -> None:
        """Own a descriptor in the place of an earlier one."""
        self.drop(part)
        self.parts[part] = descriptor

    def drop(self, *parts: str) -> None:
        """Close parts; whoever waits for one is told."""
        for part in parts:
            if part in self.parts:
                descriptor = self.parts.pop(part)
                self.unsent.pop(descriptor, None)
                trio.lowlevel.notify_closing(descriptor)
                os.close(descriptor)


class Hands:
    """The effects; every result comes back as an event through `happened`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        happened: Callable[[str, Event], None],
        compose: Callable[[str, Wanted, bool], Spawn],
        backlog: int,
    ) -> None:
        self.link: KeeperLink | None = None
        self._nursery = nursery
        self._happened = happened
        self._compose = compose
        self._backlog = backlog
        self._wires: dict[str, Wires] = {}

    def act(self, key: str, vassal: Vassal, action: Action) -> None:
        """Do one thing; `vassal` is its state after the decision."""
        match action:
            case life.Start(wanted, foreign):
                self._start(key, vassal, wanted, foreign=foreign)
            case life.Send(byte):
                self._write(key, PIPE, bytes((byte,)))
            case life.SendConfig() if vassal.wanted and vassal.wanted.config is not None:
                self._write(key, CONFIG, emperor_pipe.config(vassal.wanted.config))
            case life.KillGroup():
                self._order(Signal(key, signal.SIGKILL, group=True))
            case life.Forget():
                self._wires.pop(key, Wires()).drop(PIPE, CONFIG, SOCKET)
                self._order(Forget(key))
            case _:
                self._tend_socket(key, action)

    def note(self, key: str, vassal: Vassal) -> None:
        """Leave the state with the keeper if it differs from what it has."""
        wires = self._wires.get(key)
        text = write_note(vassal)
        if wires is not None and wires.note != text:
            wires.note = text
            self._order(Note(key, text))

    def connect(self, key: str, born: int, parts: tuple[str, ...], descriptors: list[int]) -> None:
        """Take the descriptors of a vassal's process and listen to its pipe."""
        wires = self._wires.setdefault(key, Wires())
        wires.born = born
        wires.reader = emperor_pipe.VassalReader()
        for part, descriptor in zip(parts, descriptors, strict=False):
            wires.take(part, descriptor)
        if PIPE in wires.parts:
            self._nursery.start_soon(self._listen, key, wires.parts[PIPE])

    def drain(self, key: str) -> None:
        """Before a death is dealt with: what the vassal still had to say."""
        wires = self._wires.get(key)
        if wires is not None and PIPE in wires.parts:
            while self._read(key, wires.parts[PIPE]):
                pass
            wires.drop(PIPE, CONFIG)

    def hand_over(self, key: str, vassal: Vassal) -> None:
        """Give a new keeper what its predecessor held of a vassal."""
        wires = self._wires.get(key)
        if wires is None:
            return
        parts = tuple(wires.parts)
        if vassal.pid or SOCKET in parts:
            adopt = Adopt(key, vassal.pid, wires.born, wires.note, parts)
            self._order(adopt, [wires.parts[part] for part in parts])

    def close(self) -> None:
        """Close everything; the keeper has its own copies."""
        for wires in self._wires.values():
            wires.drop(PIPE, CONFIG, SOCKET)

    # Processes

    def _start(self, key: str, vassal: Vassal, wanted: Wanted, *, foreign: bool) -> None:
        wires = self._wires.setdefault(key, Wires())
        wires.note = write_note(vassal)
        try:
            order = self._compose(key, wanted, foreign)
            self._order(order._replace(note=wires.note))
        except (OSError, ProtocolError) as error:
            self._happened(key, life.NotStarted(str(error)))

    def _order(
        self, record: Spawn | Signal | Forget | Hold | Note | Adopt, descriptors: list[int] | None = None
    ) -> None:
        if self.link is not None:  # without a keeper for a moment: the next one is told everything anyway
            self.link.order(record, descriptors or ())

    # Pipes

    async def _listen(self, key: str, pipe: int) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(pipe)
                if self._read(key, pipe) == b"":
                    return
        except (trio.ClosedResourceError, OSError):
            return  # replaced by the pipe of the next process

    def _read(self, key: str, pipe: int) -> bytes | None:
        """Pass on what waits in the pipe; what was read, None when nothing waits, empty at the end."""
        wires = self._wires.get(key)
        if wires is None or wires.parts.get(PIPE) != pipe:
            return b""
        try:
            data = os.read(pipe, _READ_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        for message in wires.reader.feed(data):
            self._happened(key, life.Said(message.kind, message.text))
        if not data:
            self._happened(key, life.Lost())
        return data

    def _write(self, key: str, part: str, data: bytes) -> None:
        wires = self._wires.get(key)
        if wires is None or part not in wires.parts:
            return
        descriptor = wires.parts[part]
        if descriptor in wires.unsent:
            wires.unsent[descriptor] += data
            return
        try:
            sent = os.write(descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it closed its end: its death is on the way
            return
        if sent < len(data):
            wires.unsent[descriptor] = bytearray(data[sent:])
            self._nursery.start_soon(self._write_rest, wires, descriptor)

    async def _write_rest(self, wires: Wires, descriptor: int) -> None:
        with contextlib.suppress(trio.ClosedResourceError, OSError):
            while wires.unsent.get(descriptor):
                await trio.lowlevel.wait_writable(descriptor)
                del wires.unsent[descriptor][: os.write(descriptor, wires.unsent[descriptor])]
        wires.unsent.pop(descriptor, None)

    # On-demand sockets

    def _tend_socket(self, key: str, action: Action) -> None:
        match action:
            case life.Bind(address):
                self._bind(key, address)
            case life.Watch():
                self.watch(key)
            case life.Unbind():
                self._wires.pop(key, Wires()).drop(PIPE, CONFIG, SOCKET)
                self._order(Forget(key))

    def _bind(self, key: str, address: str) -> None:
        try:
            listener = bind_socket(address, self._backlog)
        except (OSError, ConfigError) as error:
            self._happened(key, life.NotBound(getattr(error, "strerror", None) or str(error)))
            return
        descriptor = listener.detach()
        self._wires.setdefault(key, Wires()).take(SOCKET, descriptor)
        self._order(Hold(key), [descriptor])
        self.watch(key)

    def watch(self, key: str) -> None:
        """Tell of the next connection that waits on the on-demand socket."""
        wires = self._wires.get(key)
        if wires is not None and SOCKET in wires.parts:
            self._nursery.start_soon(self._await_caller, key, wires.parts[SOCKET])

    async def _await_caller(self, key: str, descriptor: int) -> None:
        with contextlib.suppress(trio.ClosedResourceError, trio.BusyResourceError):
            await trio.lowlevel.wait_readable(descriptor)
            self._happened(key, life.Knock())
