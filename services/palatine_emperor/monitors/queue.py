"""zmq://: deploy commands over a PULL socket, as uWSGI's clients send them; durable before they are obeyed."""

import sqlite3
import time
from collections.abc import Sequence
from ipaddress import ip_address

import trio

from palatine.bus.pull import open_pull
from palatine_emperor.deploy_journal import DeployJournal, stamped
from palatine_emperor.deploy_policy import Destroy, Refusal, Touch, read_message
from palatine_emperor.monitors.interface import Report
from palatine_emperor.settings import Settings


class QueueMonitor:
    """Binds `address` and keeps what its messages say in the journal, whose content is what it wants."""

    def __init__(self, url: str, address: str, directory: str, settings: Settings, journal: DeployJournal) -> None:
        self.url = url
        self.key = f"zmq:{address}"
        self.bound = ""
        self._address = address
        self._directory = directory
        self._settings = settings
        self._journal = journal

    def rescan(self) -> None:
        """Nothing to look at: what was sent is known."""

    async def watch(self, reports: trio.MemorySendChannel[Report]) -> None:
        """Report what the journal holds, then each change."""
        known = await trio.to_thread.run_sync(self._journal.vassals, self.key, self._directory)
        warning = [exposure(self._address)] if exposure(self._address) else []
        async with open_pull(self._address) as pull:
            self.bound = pull.address
            reports.send_nowait(Report(known, complete=True, said=tuple(warning)))
            while True:
                batch = await pull.receive()
                with trio.CancelScope(shield=True):  # what was taken from the socket exists nowhere else
                    reports.send_nowait(await trio.to_thread.run_sync(self._obey, batch))

    def _obey(self, batch: Sequence[Sequence[bytes]]) -> Report:
        commands = [read_message(parts, self._settings) for parts in batch]
        said = [command.text for command in commands if isinstance(command, Refusal)]
        good = [command for command in commands if isinstance(command, Touch | Destroy)]
        try:
            meant = self._journal.record(self.key, self._directory, stamped(good, time.time_ns()))
        except sqlite3.Error as error:  # a full disk: better a refused deploy than one that a restart forgets
            lost = f"[emperor-zeromq] {len(good)} commands are not obeyed, the journal cannot be written: {error}"
            return Report(said=(*said, lost))
        latest = {command.name: result for command, result in zip(good, meant, strict=True) if result is not None}
        said += [
            f'[emperor-zeromq] unknown instance "{command.name}"'
            for command, result in zip(good, meant, strict=True)
            if result is None
        ]
        wanted = tuple(result for result in latest.values() if not isinstance(result, str))
        return Report(
            wanted, gone=tuple(name for name, result in latest.items() if isinstance(result, str)), said=tuple(said)
        )


def exposure(address: str) -> str:
    """A warning where others than this machine's users may send commands; empty otherwise."""
    scheme, _, place = address.partition("://")
    host = place.rpartition(":")[0].strip("[]")
    if scheme != "tcp" or host == "localhost":
        return ""
    try:
        if ip_address(host).is_loopback:
            return ""
    except ValueError:  # a name, an interface or *
        pass
    return f"[emperor-zeromq] WARNING: whoever reaches {address} can run code on this machine; bind it to loopback"
