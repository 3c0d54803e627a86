"""What a running daemon holds: its directories, log, settings, segment and handlers; owned by the one trio thread."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import trio

from palatine import __version__
from palatine.counters import Segment
from palatine.daemon.logs import Logs
from palatine.daemon.settings import Document
from palatine.daemon.spec import Spec
from palatine.errors import ConfigError, PalatineError
from palatine.notify import Notifier
from palatine.schema import DAEMON_STATES

if (
    TYPE_CHECKING
):  # zmq and mmap are loaded when the daemon really starts, after `--help` and a bad config are dealt with
    from palatine.asyncio_bridge import Bridge
    from palatine.bus import Handler, Role

T = TypeVar("T")
Reload = Callable[[], Awaitable[None]]


class Context:
    """Given to the daemon's main; everything here is for use from the trio thread.

    Attributes:
        spec, args: who the daemon is, and its parsed command line.
        log: structlog logger; event names are dotted and stable, the first word is the daemon's subject.
        runtime_dir: where instances and the other daemons are found.
        daemon_dir: `<runtime>/<daemon>/`, this daemon's own endpoints.
        state_dir: what must survive a restart.
        config: the parsed YAML file, {} without one.
        settings: `config` as an instance of `spec.config`, None if the spec names no class.
        segment: the daemon's own counters, published before main runs.
        nursery: a failing task in it ends the daemon.
        handlers: ctl requests by type; add yours before `ready()`.
        draining: set by TERM and by a `stop` with drain; main then finishes what it began and returns.
    """

    segment: Segment
    nursery: trio.Nursery
    #: Holds what must outlast main and its cleaning up: signals, ctl, the asyncio bridge.
    lifetime: trio.Nursery

    def __init__(self, spec: Spec, args: Namespace, logs: Logs, log: structlog.stdlib.BoundLogger) -> None:
        self.spec = spec
        self.args = args
        self.logs = logs
        self.log = log
        self.runtime_dir = Path()
        self.daemon_dir = Path()
        self.state_dir = Path()
        self.document = Document({})
        self.settings: Any = None
        self.notifier = Notifier(None)
        self.handlers: dict[str, tuple[Role, Handler]] = {}
        self.draining = trio.Event()
        self.state = "starting"
        self.reloads = 0
        self.status_text = ""
        self.started = time.time()
        #: A ctl request ends the daemon: its reply must leave before ctl closes.
        self.reply_pending = False
        self._reloaders: list[Reload] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._statistics: list[Callable[[], Mapping[str, Any]]] = []
        self._reloading = trio.Lock()
        self._load: Callable[[], tuple[Document, Any]] = lambda: (self.document, self.settings)
        self._row: memoryview | None = None
        self._bridge: Bridge | None = None
        self._bridge_lock = trio.Lock()

    @property
    def config(self) -> dict[str, Any]:
        """The parsed YAML file as it stands after the last good (re)load."""
        return self.document.values

    def ready(self, status: str = "") -> None:
        """Say that the daemon does its job from here on: to systemd, in the segment, on ctl and in the log."""
        self._enter("ready")
        self.status_text = status or self.status_text
        self._say_status("READY=1")
        self.log.info(
            "daemon.ready", status=self.status_text or None, pid=os.getpid(), runtime_dir=str(self.runtime_dir)
        )

    def status(self, text: str) -> None:
        """One line for `systemctl status` and `palatine status`."""
        self.status_text = text
        self._say_status()

    def on_reload(self, callback: Reload) -> None:
        """Run `callback` after HUP or ctl `reload` read the config; a ConfigError from it puts the old config back."""
        self._reloaders.append(callback)

    def on_signal(self, signum: int, callback: Callable[[], None]) -> None:
        """Run `callback` on a signal that has no meaning for every daemon (TSTP, WINCH, URG, ...)."""
        self._signals[signum] = callback

    def on_statistics(self, callback: Callable[[], Mapping[str, Any]]) -> None:
        """Add what `callback` returns to `status` replies and to the USR1 dump; keys of JSON-able values."""
        self._statistics.append(callback)

    def statistics(self) -> dict[str, Any]:
        """What this daemon is and how it does, JSON-able."""
        facts: dict[str, Any] = {
            "daemon": self.spec.name,
            "version": __version__,
            "pid": os.getpid(),
            "state": self.state,
            "status": self.status_text,
            "started": int(self.started),
            "uptime": round(time.time() - self.started, 3),
            "reloads": self.reloads,
            "config": self.document.path,
            "runtime_dir": str(self.runtime_dir),
            "state_dir": str(self.state_dir),
            "log_level": self.logs.level,
            "log_dropped": self.logs.dropped,
        }
        for callback in self._statistics:
            facts.update(callback())
        return facts

    async def reload(self) -> None:
        """Read the config again and tell everybody; ConfigError if it is refused, and then the old one stands."""
        async with self._reloading:
            if self.state != "ready":
                raise ConfigError(f"cannot be reloaded while the daemon is {self.state}")
            self._enter("reloading")
            self.notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                await self._reload()
            finally:
                if self.state == "reloading":
                    self._enter("ready")
                    self._say_status("READY=1")
            self.reloads += 1
            self.count("reloads")
            self.log.info("config.reloaded", path=self.document.path or None, reloads=self.reloads)

    async def _reload(self) -> None:
        before = self.document, self.settings
        told: list[Reload] = []
        try:
            self.document, self.settings = self._load()
            for callback in self._reloaders:
                told.append(callback)
                await callback()
        except (PalatineError, OSError) as error:
            self.document, self.settings = before
            self.count("reload_failures")
            self.log.warning("config.refused", reason=str(error), kept=self.document.path or "defaults")
            for callback in told:
                await self._tell_again(callback)
            raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error

    async def _tell_again(self, callback: Reload) -> None:
        """The old config, to somebody who may have taken up the new one."""
        try:
            await callback()
        except (PalatineError, OSError) as error:
            self.log.exception("config.rollback_failed", reason=str(error))

    def drain(self, reason: str) -> None:
        """Finish what was begun, then stop; a second call stops at once."""
        if self.draining.is_set():
            self.stop(reason)
            return
        self._enter("draining")
        self.log.info("daemon.draining", reason=reason, deadline=self.spec.drain_seconds)
        self.notifier.send("STOPPING=1", "STATUS=draining")
        self.draining.set()
        self.nursery.start_soon(self._force_after_deadline)

    def stop(self, reason: str) -> None:
        """Cancel everything and leave."""
        if self.state != "stopping":
            self._enter("stopping")
            self.log.info("daemon.stopping", reason=reason)
            self.notifier.send("STOPPING=1", "STATUS=stopping")
            self.nursery.cancel_scope.cancel()

    async def to_asyncio(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function in the daemon's asyncio loop, begun if need be; cancelling waits for its end."""
        return await (await self.bridge()).run(function, *args)

    async def bridge(self) -> Bridge:
        """The daemon's asyncio bridge, opened at the first call and closed with the daemon."""
        from palatine.asyncio_bridge import serve_bridge

        async with self._bridge_lock:
            if self._bridge is None:
                self._bridge = await self.lifetime.start(serve_bridge)
        return self._bridge

    def signalled(self, signum: int) -> bool:
        """Run the daemon's own callback for a signal; False if it has none."""
        callback = self._signals.get(signum)
        if callback is not None:
            callback()
        return callback is not None

    def use_loader(self, load: Callable[[], tuple[Document, Any]]) -> None:
        """Load the config by `load`, now and at every reload."""
        self._load = load
        self.document, self.settings = load()

    async def _force_after_deadline(self) -> None:
        await trio.sleep(self.spec.drain_seconds)
        self.log.warning("daemon.drain_deadline", seconds=self.spec.drain_seconds)
        self.stop("drain deadline")

    def use_segment(self, segment: Segment) -> None:
        """Keep the `daemon` row of a segment about to be published, also of a larger one in place of the one before."""
        row = segment.cells("daemon")
        for word, value in enumerate(self._row or ()):
            row[word] = value
        self.segment, self._row = segment, row
        facts = {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid(), "started": int(self.started)}
        for field, value in facts.items():
            self.store(field, value)
        segment.text("daemon").write(self.status_text.encode())
        self._enter(self.state)
        self.logs.on_error = lambda: self.count("errors")

    def store(self, field: str, value: int) -> None:
        """Set a field of the `daemon` row of the segment."""
        if self._row is not None:
            self._row[self.segment.word("daemon", field)] = value

    def count(self, field: str, by: int = 1) -> None:
        """Add to a field of the `daemon` row of the segment."""
        if self._row is not None:
            self._row[self.segment.word("daemon", field)] += by

    def _say_status(self, *lines: str) -> None:
        self.notifier.send(*lines, f"STATUS={self.status_text or self.state}")
        if self._row is not None:
            self.segment.text("daemon").write(self.status_text.encode())

    def _enter(self, state: str) -> None:
        self.state = state
        self.store("state", DAEMON_STATES.index(state))
        self.store("ready", int(state in {"ready", "reloading"}))
