"""An emperor's life from first to last: monitors and signals to the supervisor, ctl, stats socket, and how it ends."""

import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from palatine.bus import Request, Role
from palatine.daemon import Context
from palatine.errors import ConfigError
from palatine.process_title import set_title
from palatine_emperor import emperor_hooks
from palatine_emperor import vassal as life
from palatine_emperor.board import Board
from palatine_emperor.composer import Composer
from palatine_emperor.control import DESK, Desk
from palatine_emperor.court import Court
from palatine_emperor.deploy_journal import open_journal
from palatine_emperor.entourage import STATS_EXPORTER, Entourage
from palatine_emperor.hands import Hands
from palatine_emperor.keeper_link import SOCKET_NAME, open_keeper
from palatine_emperor.second_place import vassals_state
from palatine_emperor.settings import Settings
from palatine_emperor.stats_socket import StatsSocket
from palatine_emperor.stop_hook import HOOK_SECONDS, run_stop_hook
from palatine_emperor.supervisor import Supervisor
from palatine_emperor.vassal import Phase, Vassal
from palatine_emperor.vassal_note import split_key
from palatine_emperor.voice import Voice

#: Between two writings of the sums and of systemd's status line. Seconds.
_SUMS_SECONDS: Final = 0.2
#: After SIGKILL a process is gone as soon as the kernel has freed it. Seconds.
_KILLED_SECONDS: Final = 10.0


class Government:
    """One emperor: made when its daemon runs, governs until told to leave.

    `read_settings` gives the settings as they stand now; `umbrella` says that vassals end with this emperor, `alone`
    that it brings the daemons they need.
    """

    def __init__(self, ctx: Context, read_settings: Callable[[], Settings], *, umbrella: bool, alone: bool) -> None:
        self._ctx = ctx
        self._read_settings = read_settings
        self._settings = read_settings()
        self._umbrella = umbrella
        self._alone = alone
        self._cwd = os.getcwd()
        self._offset = time.time() - time.monotonic()
        json = ctx.args.log_format == "json"
        self._voice = Voice(ctx.logs.write, ctx.log if json else None)
        self._journal = open_journal(ctx.state_dir)
        identity = (self._cwd, *self._settings.emperors)
        self._vassals_state = vassals_state(ctx.runtime_dir, ctx.args.state_dir, identity)
        self._composer = Composer(self._settings, ctx.runtime_dir, self._vassals_state, os.environ)
        self._supervisor = Supervisor(
            self._settings.limits, self._voice.say, self._changed, time.monotonic, self._buried, self._spawned
        )
        self._court = Court(self._settings, self._journal, self._cwd, self._supervisor.report)
        self._desk = Desk(
            self._supervisor,
            self._journal,
            self._settings,
            self._cwd,
            self._court.url_of,
            self._composer.instance_of,
            self._offset,
        )
        self._board = Board(
            ctx.daemon_dir / "seg", self._labels(), self._offset, self._composer.instance_of, ctx.use_segment
        )
        self._dirty = trio.Event()
        self._ragnarok_at = 0.0
        self._hooks: trio.Nursery | None = None

    async def run(self) -> None:
        """Govern until TERM, INT, QUIT or a stop by request; then leave the vassals to the keeper, or end them."""
        self._voice.plain("emperor.starting", "*** starting uWSGI Emperor ***")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two or three descriptors a vassal
        pidfiles = [Path(path) for path in (self._settings.pidfile, self._settings.emperor_pidfile) if path]
        for path in pidfiles:
            _write_pid(path)
        self._put_on_title()
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as self._hooks:
                    await self._begin(nursery, descriptors=soft)
                    await self._ctx.draining.wait()
                    self._court.close()
                    if self._ragnarok_at or self._umbrella:
                        await self._ragnarok()
                    self._hooks.cancel_scope.deadline = trio.current_time() + HOOK_SECONDS
                release = not self._needed()
                await self._supervisor.leave_to_keeper(release=release)
                if release:
                    (self._ctx.daemon_dir / SOCKET_NAME).unlink(missing_ok=True)
                nursery.cancel_scope.cancel()
        finally:
            self._journal.close()
            self._board.close()
            for path in pidfiles:
                path.unlink(missing_ok=True)

    def _put_on_title(self) -> None:
        if self._settings.emperor_procname:
            set_title(self._settings.emperor_procname)

    async def _begin(self, nursery: trio.Nursery, *, descriptors: int) -> None:
        ctx, settings = self._ctx, self._settings
        begun = settings.hook_emperor_start
        if begun and await emperor_hooks.run_hooks("emperor-start", begun, {}):
            raise ConfigError("a hook of hook-emperor-start has failed")
        if settings.emperor_stats:
            stats = StatsSocket(settings, ctx.daemon_dir)
            nursery.start_soon(stats.serve)
            self._voice.plain("emperor.stats", stats.announcement)
        self._answer_signals()
        ctx.handlers.update(self._desk.handlers())
        ctx.handlers["stop"] = (Role.OPERATOR, self._stop_requested)
        ctx.on_reload(self._reload)
        ctx.on_statistics(self._statistics)
        words = ["--descriptors", str(descriptors), *["--ksm"] * settings.ksm]
        keeper = partial(open_keeper, ctx.daemon_dir, dict(os.environ), words)
        await nursery.start(self._supervisor.govern, keeper, self._hands)
        await self._desk.restore()
        self._court.open(nursery)
        self._supervisor.retire_monitors({DESK, *self._court.keys})
        nursery.start_soon(self._keep_sums)
        if self._alone:
            self._attract_daemons(nursery)
        ctx.ready(self._status())

    def _attract_daemons(self, nursery: trio.Nursery) -> None:
        """Nobody else may run them here: under an umbrella the emperor brings those its vassals need."""
        words = ["--state-dir", self._vassals_state] if self._vassals_state else []
        entourage = Entourage(self._ctx.runtime_dir, words, lambda text: self._voice.plain("companion.said", text))
        nursery.start_soon(entourage.attend, *([STATS_EXPORTER] if self._settings.emperor_stats else []))

    def _hands(self, nursery: trio.Nursery) -> Hands:
        return Hands(nursery, self._supervisor.happened, self._composer.compose, self._settings.listen)

    # What operators see

    def _changed(self, key: str, vassal: Vassal) -> None:
        self._board.show(key, vassal, self._court.url_of(split_key(key)[0]))
        if vassal.phase is Phase.ABSENT and vassal.blame is None:
            self._composer.forget(key)
        self._dirty.set()

    def _spawned(self, key: str, pid: int) -> None:
        texts = emperor_hooks.as_emperor(self._settings)
        if texts and self._hooks is not None:
            vassal = self._supervisor.vassals.get(key)
            wanted = vassal and (vassal.started or vassal.wanted)
            ids = (wanted.uid, wanted.gid) if wanted else (None, None)
            about = emperor_hooks.about(split_key(key)[1], pid, *ids)
            self._hooks.start_soon(emperor_hooks.run_hooks, "as-emperor", texts, about)

    def _buried(self, key: str) -> None:
        if self._settings.vassals_stop_hook and self._hooks is not None:
            vassal = self._supervisor.vassals.get(key)
            wanted = vassal and (vassal.wanted or vassal.started)
            self._hooks.start_soon(
                run_stop_hook,
                self._settings.vassals_stop_hook,
                split_key(key)[1],
                wanted.directory if wanted else self._cwd,
                lambda text: self._voice.plain("vassal.stop_hook", text),
            )

    async def _keep_sums(self) -> None:
        while True:
            keeper = self._supervisor.link.pid if self._supervisor.link else 0
            self._board.sums(self._supervisor, keeper, tyrant=self._settings.emperor_tyrant)
            if self._ctx.state == "ready":
                self._ctx.status(self._status())
            await trio.sleep(_SUMS_SECONDS)
            await self._dirty.wait()
            self._dirty = trio.Event()

    def _status(self) -> str:
        count = sum(vassal.phase is not Phase.ABSENT for vassal in self._supervisor.vassals.values())
        return f"The Emperor is governing {count} vassals"

    def _statistics(self) -> dict[str, Any]:
        refused = {
            split_key(key)[1]: vassal.reason
            for key, vassal in self._supervisor.vassals.items()
            if vassal.phase is Phase.REFUSED
        }
        return {
            "vassals": len(self._supervisor.vassals),
            "processes": self._supervisor.processes(),
            "keeper_pid": self._supervisor.link.pid if self._supervisor.link else 0,
            "monitors": [self._court.url_of(key) for key in sorted(self._court.keys)],
            "refused": refused,
        }

    def _labels(self) -> dict[str, Any]:
        monitors = [self._court.url_of(key) for key in sorted(self._court.keys)]
        return {"name": self._ctx.spec.name, "monitors": monitors, "cwd": self._cwd}

    def _dump(self) -> None:
        numbers = {Phase.STOPPING: 1}
        for key, vassal in self._supervisor.vassals.items():
            wanted = vassal.wanted or vassal.started
            if wanted is not None:
                self._voice.plain(
                    "vassal.dump",
                    f"vassal instance {split_key(key)[1]} (last modified {wanted.stamp // 10**9})"
                    f" status {numbers.get(vassal.phase, 0)} loyal {int(vassal.loyal)} zerg {int(bool(wanted.zerg))}",
                )

    # What operators ask for

    def _answer_signals(self) -> None:
        ctx = self._ctx
        ctx.on_signal(signal.SIGTERM, lambda: self._leave("SIGTERM"))
        ctx.on_signal(signal.SIGINT, lambda: self._evoke_ragnarok("SIGINT"))
        ctx.on_signal(signal.SIGQUIT, lambda: self._evoke_ragnarok("SIGQUIT"))
        ctx.on_signal(signal.SIGHUP, lambda: ctx.nursery.start_soon(self._hang_up))
        ctx.on_signal(signal.SIGUSR1, self._dump)
        ctx.on_signal(signal.SIGWINCH, self._court.rescan)
        ctx.on_signal(signal.SIGURG, self._pardon)

    def _pardon(self) -> None:
        self._voice.stamped("emperor.pardon", "[emperor] cleaning up blacklist ...")
        self._supervisor.everyone(life.Pardon())

    async def _hang_up(self) -> None:
        """HUP: read the settings again, look at all monitors, reload every vassal."""
        try:
            await self._ctx.reload()
        except ConfigError:  # said in the log, and the old settings stand
            return
        self._court.rescan()
        self._supervisor.everyone(life.Reload())

    async def _reload(self) -> None:
        settings = self._read_settings()
        if settings == self._settings:
            return
        self._court.reform(settings)
        self._settings = settings
        self._composer.settings = settings
        self._put_on_title()
        self._desk.settings = settings
        self._supervisor.limits = settings.limits
        self._supervisor.retire_monitors({DESK, *self._court.keys})
        self._board.relabel(self._labels())
        self._dirty.set()

    async def _stop_requested(self, request: Request) -> dict[str, Any]:
        """The request stop {"vassals": bool}: leave, with or without the vassals."""
        vassals = isinstance(request.body, dict) and bool(request.body.get("vassals"))
        self._ctx.reply_pending = True
        reason = f"ctl stop by uid {request.peer.uid}"
        if vassals:
            self._evoke_ragnarok(reason)
        else:
            self._leave(reason)
        return {"stopping": True, "drain": True, "vassals": vassals or self._umbrella}

    # The end

    def _leave(self, reason: str) -> None:
        if self._umbrella:
            self._evoke_ragnarok(reason)
        elif not self._ctx.draining.is_set():
            self._ctx.drain(reason)

    def _evoke_ragnarok(self, reason: str) -> None:
        if self._ragnarok_at:
            left = max(0, round(self._ragnarok_at + self._settings.reload_mercy - time.monotonic()))
            text = f"[emperor] *** RAGNAROK ALREADY EVOKED (mercyless in {left} seconds) ***"
            self._voice.plain("emperor.ragnarok_already", text)
            return
        self._ragnarok_at = time.monotonic()
        self._voice.plain("emperor.ragnarok", "[emperor] *** RAGNAROK EVOKED ***")
        if not self._ctx.draining.is_set():
            self._ctx.drain(reason)

    async def _ragnarok(self) -> None:
        self._supervisor.everyone(life.Stop())
        with trio.move_on_after(self._settings.reload_mercy) as mercy:
            await self._supervisor.wait_quiet()
        if mercy.cancelled_caught:
            self._supervisor.everyone(life.NoMercy())
            with trio.move_on_after(_KILLED_SECONDS):
                await self._supervisor.wait_quiet()
        self._voice.stamped("emperor.buried", "The Emperor is buried.")

    def _needed(self) -> bool:
        """Whether the keeper still has something to keep."""
        return any(vassal.pid or vassal.bound for vassal in self._supervisor.vassals.values())


def _write_pid(path: Path) -> None:
    try:
        path.write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", str(path)) from error
