"""One attempt at one delivery, wherever it has to run; it must never decide whether there will be another."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import trio

from palatine.codec.alarm_grammar import APP_ACTIONS
from palatine.errors import ConfigError, DeadlineError, PalatineError, PeerError
from palatine_alarm_daemon.clients import Clients
from palatine_alarm_daemon.curl_options import parse_curl
from palatine_alarm_daemon.delivery_policy import Failed, Succeeded
from palatine_alarm_daemon.mail import Mailer
from palatine_alarm_daemon.values import HOST, Delivery

if TYPE_CHECKING:
    from palatine_alarm_daemon.web import Web

#: Seconds an instance may take to accept an action.
ACCEPT_SECONDS: Final = 5.0
#: Seconds a host command may run.
COMMAND_SECONDS: Final = 60.0
#: Refusals of an instance that will be the same next time.
_LASTING: Final = frozenset({"unknown-type", "unsupported", "invalid", "too-large"})


class Actions:
    """Runs the actions of deliveries."""

    def __init__(self, nursery: trio.Nursery, log: structlog.stdlib.BoundLogger, runtime_dir: Path) -> None:
        self._log = log
        self._agent = runtime_dir / "snmp-agent" / "ctl"
        self._clients = Clients(nursery, log)
        self._web: Web | None = None
        self._loading = trio.Lock()
        self._mailer = Mailer()

    async def attempt(self, delivery: Delivery, instance: Path | None) -> Succeeded | Failed:
        """One attempt; `instance` is the directory of the delivery's instance, None while it is gone."""
        if delivery.action == "curl":
            return await self._curl(delivery)
        if delivery.action == "snmptrap":
            return await self._by_agent(delivery)
        if delivery.lane.origin == HOST:
            return await self._on_host(delivery)
        if delivery.action in APP_ACTIONS and instance is not None:
            return await self._in_app(delivery, instance)
        return Failed(f"not served yet: {delivery.action}", lasting=True)

    async def aclose(self) -> None:
        """Give connections back."""
        if self._web is not None:
            await self._web.aclose()

    async def _curl(self, delivery: Delivery) -> Succeeded | Failed:
        try:
            curl = parse_curl(delivery.arg)
        except ConfigError as error:
            return Failed(str(error), lasting=True)
        if curl.is_mail:
            return await self._mailer.deliver(curl, delivery.message)
        return await (await self._http()).deliver(curl, delivery.message, delivery.id)

    async def _http(self) -> Web:
        """The HTTP clients. httpx doubles the daemon's start and memory, so only who needs it pays, beside the loop."""
        async with self._loading:
            if self._web is None:
                module = await trio.to_thread.run_sync(importlib.import_module, "palatine_alarm_daemon.web")
                self._web = module.Web()
            return self._web

    async def _in_app(self, delivery: Delivery, instance: Path) -> Succeeded | Failed:
        body = {
            "id": delivery.id,
            "action": delivery.action,
            "arg": delivery.arg,
            "message": delivery.message.decode("latin-1"),
        }
        try:
            reply = await self._clients.ask(instance / "ctl", "alarm.action", body, ACCEPT_SECONDS)
        except DeadlineError:
            return Failed("the instance did not answer in time")
        except PeerError as error:
            return Failed(str(error), lasting=error.code in _LASTING)
        except PalatineError as error:
            return Failed(str(error))
        if isinstance(reply, dict) and reply.get("accepted"):
            return Succeeded()
        return Failed(f"the instance answered {reply!r}", lasting=True)

    async def _by_agent(self, delivery: Delivery) -> Succeeded | Failed:
        """The snmp-agent tells its targets, or those that `arg` names; it has informs on disk when it answers."""
        body = {
            "instance": delivery.lane.instance,
            "alarm": delivery.lane.alarm,
            "message": delivery.message.decode("utf-8", "replace").rstrip("\n"),
            "targets": [name for name in delivery.arg.replace(" ", "").split(",") if name],
        }
        try:
            await self._clients.ask(self._agent, "notify", body, ACCEPT_SECONDS)
        except DeadlineError:
            return Failed("the snmp-agent did not answer in time")
        except PeerError as error:
            return Failed(f"the snmp-agent: {error}", lasting=error.code in _LASTING)
        except PalatineError as error:
            return Failed(str(error))
        return Succeeded()

    async def _on_host(self, delivery: Delivery) -> Succeeded | Failed:
        """The host's own `cmd` and `log`: settings.py let only a file of root's name them."""
        if delivery.action == "log":
            text = delivery.message.decode("utf-8", "replace").rstrip("\n")
            self._log.warning("alarm.host", instance=delivery.lane.instance, prefix=delivery.arg, message=text)
            return Succeeded()
        shell = functools.partial(trio.run_process, check=False, start_new_session=True)
        try:
            with trio.fail_after(COMMAND_SECONDS):
                done = await shell(["/bin/sh", "-c", delivery.arg], stdin=delivery.message)
        except trio.TooSlowError:
            return Failed(f"killed after {COMMAND_SECONDS:g} s", lasting=True)
        except OSError as error:
            return Failed(str(error))
        return Succeeded(f"exited with code {done.returncode}" if done.returncode else "")
