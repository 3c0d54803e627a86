"""What a master leaves to the zygotes and workers it forks: settings, sockets, counters, and its lifeline."""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from palatine.counters import Segment
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.config.socket_settings import HTTP, Traits
from palatine_app_server.log.logs import Logs
from palatine_app_server.serving.clients import Listener
from palatine_app_server.serving.worker import Doors
from palatine_app_server.sharing.commons import Commons
from palatine_app_server.supervision import certificates
from palatine_app_server.supervision.crash_reports import CrashReports
from palatine_app_server.supervision.foundation import Sockets
from palatine_app_server.supervision.inheritance import Inheritance
from palatine_app_server.system import sockets
from palatine_app_server.system.instance import Place
from palatine_app_server.uwsgi_module.api import ApiSettings


class Heritage:
    """Of one master; `settings` gives those in force, `tls` are the contexts read with the rights of the start."""

    def __init__(
        self,
        settings: Callable[[], AppSettings],
        place: Place,
        segment: Segment,
        bound: Sockets,
        *,
        logs: Logs,
        commons: Commons,
        crashes: CrashReports,
        tls: Mapping[str, Any],
        master: socket.socket,
    ) -> None:
        self._get_settings = settings
        self._place = place
        self._segment = segment
        self._bound = bound
        self._logs = logs
        self._commons = commons
        self._crashes = crashes
        self._tls = tls
        self._master = master
        self._lifeline = os.pipe2(os.O_CLOEXEC)

    def close_in_child(self) -> None:
        """A child that held our end of the lifeline would keep itself alive."""
        os.close(self._lifeline[1])

    def of(self, generation: int) -> Inheritance:
        """What the zygote of `generation` gets; called in it."""
        settings = self._get_settings()
        return Inheritance(
            settings=settings,
            api=ApiSettings(
                options=settings.options,
                processes=settings.processes,
                threads=settings.threads,
                buffer_size=settings.limits.head_bytes,
                master_pid=os.getppid(),  # called in the zygote
                snmp=settings.snmp,
                locks=settings.locks,
                lock_path=str(self._place.directory / "lock"),
                alarm_message_bytes=settings.alarms.message_bytes,
                harakiri_seconds=settings.harakiri_seconds,
                websockets=settings.http.websockets,
                front=settings.front,
                mode=settings.mode,
                log_date=settings.log.date_format if settings.log.dated else None,
                runs_atexit=settings.process.start.runs_atexit,
                tears_down=settings.process.start.tears_down,
                pidfile=next(iter(settings.process.all_pidfiles), ""),
                quiet_caches=tuple(cache.name for cache in settings.features.caches if cache.ignore_full),
            ),
            segment=self._segment,
            doors=partial(self._doors, self._contexts()),
            master=self._master,
            generation=generation,
            master_pid=os.getppid(),
            log_ends=self._logs.ends,
            commons=self._commons,
            crash_fd=partial(self._crashes.fd, generation=generation),
        )

    def _contexts(self) -> Mapping[str, Any]:
        """Those of a new generation: certificates may be others by now."""
        contexts, complaint = certificates.refreshed(self._get_settings().tls, self._tls)
        if complaint:
            sys.stderr.write(f"{complaint}\n")
        return contexts

    def _doors(self, contexts: Mapping[str, Any], worker: int) -> Doors:
        settings = self._get_settings()
        traits = (*settings.traits, *[Traits()] * (len(settings.sockets) - len(settings.traits)))  # systemd's, unnamed
        variables = dict(settings.http.variables)
        listeners = [
            Listener(
                bound.socket, bound.socket.fileno(), bound.name, bound.kind,
                sockets.request_variables(bound) | (variables if bound.kind in HTTP else {}),
                contexts.get(wish.address) if wish.kind == "https" else None, trait.proxied, trait.port,
            )
            for wish, trait, bound in zip(settings.sockets, traits, self._bound.requests, strict=True)
            if not trait.workers or worker in trait.workers
        ]  # fmt: skip
        return Doors(listeners, self._lifeline[0], self._commons.signals.readers(worker))
