"""Ways to give orders without a terminal: touched files, watched trees, the master FIFO. Each ends in `Orders`."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping

from palatine.codec import emperor_pipe
from palatine_app_server.config.process_settings import ProcessSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.orders import Orders
from palatine_app_server.orders.touches import Touch
from palatine_app_server.orders.vassal import EmperorPipe
from palatine_app_server.starting import hooks, pid_files
from palatine_app_server.starting.errors import HookError
from palatine_app_server.starting.hooks import SIGNAL_ORDERS
from palatine_app_server.supervision.reload_policy import How
from palatine_app_server.supervision.scaling import Scaling
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part


class StandingOrders(Part):
    """What the process settings of one instance ask for; `deliver` routes a uwsgi signal, `alarm` raises one."""

    def __init__(
        self,
        settings: ProcessSettings,
        orders: Orders,
        scaling: Scaling,
        logs: Logs,
        loop: Loop,
        *,
        deliver: Callable[[int], None],
        alarm: Callable[[str, str, str], None],
        emperor: EmperorPipe | None,
        environ: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._orders = orders
        self._scaling = scaling
        self._logs = logs
        self._loop = loop
        self._deliver = deliver
        self._alarm = alarm
        self._emperor = emperor
        self._environ = dict(environ)
        self._commands: dict[int, str] = {}
        self._parts: list[Part] = []

    def start(self, now: float) -> None:
        """The files are looked at from now on."""
        del now
        self._parts += self._wanted()
        self.at("master-start")

    def at(self, moment: str) -> None:
        """Run the master's own hooks of a moment."""
        for hook in self._settings.hooks_at(moment):
            self._run_hook(hook, moment)

    def tick(self, now: float) -> None:
        """Look at what must be looked at."""
        for part in self._parts:
            part.tick(now)

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """One of the commands has ended."""
        del now
        command = self._commands.pop(pid, "")
        code = os.waitstatus_to_exitcode(status)
        if command and code:
            self._logs.say(f'command "{command}" exited with non-zero code: {code}')
        return bool(command)

    def close_in_child(self) -> None:
        """Only the master hears orders."""
        for part in self._parts:
            part.close_in_child()

    def _wanted(self) -> Iterator[Part]:
        """Parts whose code only configs that ask for them load."""
        settings = self._settings
        if settings.touches:
            from palatine_app_server.orders.touches import Touches

            yield Touches(settings.touches, self._touched, self._logs.say)
        if settings.fs:
            from palatine_app_server.orders.tree_watch import TreeWatch

            yield TreeWatch(settings.fs, self._touched, self._loop)
        if settings.fifos:
            from palatine_app_server.orders.fifo import MasterFifo

            yield MasterFifo(settings.fifos, self._letters(), self._loop, self._logs.say_dated)

    # ------------------------------------------------------------------ touched files

    def _touched(self, touch: Touch) -> None:
        say, orders = self._logs.say_dated, self._orders  # as uWSGI writes these
        path = touch.path
        if touch.order == "reload":
            say(f"*** {path} has been touched... grace them all !!! ***")
            orders.reload()
        elif touch.order == "brutal-reload":
            say(f"*** {path} has been touched... reap them all !!! ***")
            orders.reload_brutally()
        elif touch.order == "workers-reload":
            say(f"*** {path} has been touched... workers reload !!! ***")
            orders.reload_workers()
        elif touch.order == "chain-reload":
            say(f"*** {path} has been touched... chain reload !!! ***")
            orders.reload_workers(How.CHAIN)
        elif touch.order == "signal":
            say(f"[uwsgi-touch-signal] raising {touch.argument}")
            self._deliver(int(touch.argument))
        elif touch.order == "exec":
            say(f"[uwsgi-touch-exec] running {touch.argument}")
            self._spawn(touch.argument, self._settings.shell)
        else:
            self._run_hook(hooks.parse(touch.argument, "touch", self._settings.shell), "touch")

    def _run_hook(self, hook: hooks.Hook, moment: str) -> None:
        """One of the master's own, which must not wait for what it starts, nor end by what fails."""
        if hook.verb in {"exec", "safeexec"}:
            self._logs.say(f'running "{hook.text}" ({moment})...')
            self._spawn(hook.argument, hook.shell)
        elif hook.verb == "unix_signal":
            number, _, function = hook.argument.partition(" ")
            order = getattr(self._orders, SIGNAL_ORDERS[function.strip()])
            self._loop.answer_signal(int(number), order)
        elif hook.verb == "alarm":
            alarm, _, message = hook.argument.partition(" ")
            self._alarm(alarm, message, "hook")
        else:
            try:
                hooks.run([hook], moment)
            except HookError as error:
                self._logs.say(str(error))

    def _spawn(self, command: str, shell: str) -> None:
        fd = self._logs.child_fd
        pid = os.posix_spawn(
            shell,
            [shell, "-c", command],
            self._environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, 1), (os.POSIX_SPAWN_DUP2, fd, 2)],
            setsid=True,
            setsigdef=[number for number in signal.valid_signals() if number not in {signal.SIGKILL, signal.SIGSTOP}],
        )
        self._commands[pid] = command

    # ------------------------------------------------------------------ the FIFO

    def _ask_for_reinforcements(self) -> None:
        if self._emperor is not None:
            self._emperor.tell(emperor_pipe.REINFORCEMENTS)
        else:
            self._logs.say("[broodlord] instance not governed by an Emperor !!!")

    def _letters(self) -> Mapping[str, Callable[[], object]]:
        """UWSGI's table; f (refork), S (subscriptions) and E (of an emperor) mean nothing to an app."""
        orders, scaling, logs = self._orders, self._scaling, self._logs
        return {
            "+": lambda: scaling.change(1),
            "-": lambda: scaling.change(-1),
            "B": self._ask_for_reinforcements,
            "C": scaling.go_cheap,
            "c": lambda: orders.reload_workers(How.CHAIN),
            "l": logs.reopen,
            "L": logs.rotate,
            "p": orders.pause,
            "P": lambda: pid_files.write(self._settings.all_pidfiles, logs.say),
            "Q": orders.stop_now,
            "q": orders.drain,
            "R": orders.reload_brutally,
            "r": orders.reload,
            "s": orders.dump,
            "W": lambda: orders.reload_workers(How.BRUTAL),
            "w": orders.reload_workers,
        }
