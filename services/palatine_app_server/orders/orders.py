"""What an instance is told to do, by signals, the bus, the Emperor, the FIFO and touched files: reload, stop, pause.

Every way to say it ends here, so that all of them mean the same.
"""

from collections.abc import Callable

from palatine import exits
from palatine.errors import PalatineError
from palatine.notify import Notifier
from palatine.schema import SERVER_STATES
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.vassal import EmperorPipe, Order
from palatine_app_server.supervision import succession
from palatine_app_server.supervision.reload_policy import How
from palatine_app_server.supervision.workforce import Workforce

#: What is left this long after SIGINT is killed.
STOP_SECONDS = 3.0


class Orders:
    """Carries orders out on the workforce; `settings` are those in force."""

    def __init__(
        self,
        settings: AppSettings,
        workforce: Workforce,
        logs: Logs,
        notifier: Notifier,
        emperor: EmperorPipe | None,
        *,
        reread: Callable[[], AppSettings],
        count: Callable[[str], None],
        total_requests: Callable[[], int],
    ) -> None:
        self.settings = settings
        self.successor_wanted = False
        self.exit_code = exits.OK
        self._workforce = workforce
        self._logs = logs
        self._notifier = notifier
        self._emperor = emperor
        self._reread = reread
        self._count = count
        self._total_requests = total_requests
        self._draining = False
        self.at: Callable[[str], None] = lambda _moment: None  # runs the hooks of emperor-stop and its kin

    @property
    def gentle(self) -> bool:
        """Whether what is being done at a stop may be finished."""
        return self._draining

    @property
    def state(self) -> int:
        """What the instance is doing, as an index of SERVER_STATES."""
        workforce = self._workforce
        name = "ready"
        if workforce.stopping:
            name = "draining" if self._draining else "stopping"
        elif not workforce.reload.serving:
            name = "starting"
        elif workforce.reload.coming:
            name = "reloading"
        elif workforce.paused:
            name = "paused"
        return SERVER_STATES.index(name)

    def reload(self, how: How = How.TOGETHER) -> str:
        """Read the config again and bring it into force; why not, where it cannot be read: then the old one stays."""
        if self._workforce.stopping:
            return "stopping"
        if self.settings.process.exit_on_reload:
            self._logs.say("uWSGI: GAME OVER (insert coin)")
            self.drain()
            return ""
        try:
            wanted = self._reread()
        except PalatineError as error:
            self._logs.say(f"the config cannot be read again, the old one stays in force: {error}")
            self._count("reload_failures")
            return str(error)
        self._logs.reloading()
        self._logs.say(f"...{'brutally' if how is How.BRUTAL else 'gracefully'} killing workers...")
        if succession.needs_successor(self.settings, wanted):
            self._notifier.send("RELOADING=1")
            self._logs.say("the config changes what a master is made of: it starts anew when its workers have finished")
            self.successor_wanted = self._draining = True
            brutal = how is How.BRUTAL
            self._workforce.stop(STOP_SECONDS if brutal else float(self.settings.mercy_seconds), brutal=brutal)
        else:
            self.settings = wanted
            self._workforce.request_reload(wanted, how)
        return ""

    def reload_brutally(self) -> None:
        """Reload, and let the old workers drop what they are serving once the new ones serve."""
        self.reload(How.BRUTAL)

    def reload_workers(self, how: How = How.TOGETHER) -> None:
        """Fresh workers with the app as it is now, by the config in force."""
        self._workforce.request_reload(how=how)

    def drain(self) -> None:
        """Finish what is being served, then end."""
        self._notifier.send("STOPPING=1")
        self._draining = True
        self._logs.say("SIGTERM received...draining workers...")
        self._workforce.stop(float(self.settings.mercy_seconds))

    def stop_now(self) -> None:
        """Drop what is being served, and end."""
        self.successor_wanted = False
        self._notifier.send("STOPPING=1")
        self._draining = False
        self._logs.say("SIGINT/SIGTERM received...killing workers...")
        self._workforce.stop(0.0 if self._workforce.stopping else STOP_SECONDS, brutal=True)

    def pause(self) -> None:
        """Take no requests, or take them again."""
        self._workforce.toggle_pause()
        paused = "*** PAUSE (press start to resume, if you do not have a joypad send SIGTSTP) ***"
        self._logs.say_dated(paused if self._workforce.paused else "*** (SIGTSTP received) resuming workers ***")

    def dump(self) -> None:
        """Write what the workers do to the log."""
        for life in self._workforce.workers():
            self._logs.say(f"worker {life.worker} pid {life.pid} generation {life.generation} {life.phase.value}")
        self._logs.say(f"total requests: {self._total_requests()}")

    def give_up(self, code: int) -> None:
        """No app can be loaded: there is nothing to serve."""
        self.exit_code = code
        if self._emperor is not None:
            self._emperor.tell_reason("no app could be loaded")
        self._logs.say("no app could be loaded: giving up")
        self._workforce.stop(0.0, brutal=True)

    def hear_emperor(self) -> bool:
        """Obey what waits in the Emperor's pipe; False at its end."""
        assert self._emperor is not None
        for order in self._emperor.hear():
            if order is Order.LOST:
                self._logs.say("lost connection with my emperor !!!")
                self.at("emperor-lost")
                self.stop_now()
                return False
            self._logs.say_dated(f"received message {order.value} from emperor")
            self.at("emperor-reload" if order is Order.RELOAD else "emperor-stop")
            actions: dict[Order, Callable[[], object]] = {
                Order.STOP: self.stop_now,
                Order.GRACEFUL_STOP: self.drain,
                Order.RELOAD: self.reload,
            }
            actions[order]()
        return True
