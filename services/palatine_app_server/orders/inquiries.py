"""What the master answers to requests that come over the bus, already authorised by the link. It waits for nothing."""

import os
from collections.abc import Callable
from typing import Any

from palatine import __version__
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.actions import Actions
from palatine_app_server.orders.orders import Orders
from palatine_app_server.supervision.foundation import Sockets
from palatine_app_server.supervision.workforce import Workforce
from palatine_app_server.system.instance import Place


class Inquiries:
    """Answers by kind of request; an unknown one gets an error."""

    def __init__(
        self,
        settings: AppSettings,
        place: Place,
        logs: Logs,
        bound: Sockets,
        *,
        actions: Actions,
        orders: Orders,
        workforce: Workforce,
        total_requests: Callable[[], int],
    ) -> None:
        self._alarms = settings.alarms
        self._place = place
        self._logs = logs
        self._bound = bound
        self._actions = actions
        self._orders = orders
        self._workforce = workforce
        self._total_requests = total_requests

    def answer(self, kind: str, body: Any) -> dict[str, Any]:
        """The reply to one request."""
        if kind == "alarm.action":
            return self._actions.run(body if isinstance(body, dict) else {})
        if kind == "alarm.config":
            return self._alarm_config()
        if kind == "reload":
            refusal = self._orders.reload()
            if refusal:
                return {"error": "config", "message": refusal}
            return {"generation": self._workforce.reload.coming}
        if kind == "stop":
            drain = not isinstance(body, dict) or bool(body.get("drain", True))
            (self._orders.drain if drain else self._orders.stop_now)()
            return {"stopping": True}
        if kind == "status":
            return self._status()
        if kind == "udp.datagram" and isinstance(body, dict):
            if body.get("instance", self._place.name) != self._place.name:  # an older agent does not say
                return {"error": "invalid", "message": f"this is {self._place.name}, and not {body['instance']}"}
            self._logs.say(f"[udp:{body.get('peer', '')}] {body.get('payload', '')}")
            return {}
        return {"error": "unknown-type", "message": f"no request {kind!r}"}

    def greeting(self) -> dict[str, Any]:
        """What a freshly started link is told first."""
        return {"op": "config", **self._alarm_config()}

    def _status(self) -> dict[str, Any]:
        reload = self._workforce.reload
        return {
            "name": self._place.name,
            "pid": os.getpid(),
            "version": __version__,
            "generation": reload.serving,
            "coming": reload.coming,
            "workers": [
                {"id": life.worker, "pid": life.pid, "generation": life.generation, "phase": life.phase.value}
                for life in self._workforce.workers()
            ],
            "sockets": [bound.name for bound in self._bound.requests],
            "requests": self._total_requests(),
            "private": self._place.private,
        }

    def _alarm_config(self) -> dict[str, Any]:
        """What the alarm-daemon must know of this instance."""
        alarms = self._alarms
        return {
            "instance": self._place.name,
            "freq": alarms.freq,
            "alarms": [alarm._asdict() for alarm in alarms.alarms],
            "rules": [rule._asdict() for rule in alarms.rules],
        }
