"""Parts only some configs have, and whose code only those load."""

import os
from collections.abc import Callable, Iterator, Mapping

from palatine.counters import Segment
from palatine_app_server.config.settings import AppSettings
from palatine_app_server.crews.crew import MULE, SPOOLER, Crew
from palatine_app_server.log.logs import Logs
from palatine_app_server.orders.orders import Orders
from palatine_app_server.orders.touches import Touch, Touches
from palatine_app_server.orders.vassal import EmperorPipe
from palatine_app_server.sharing.commons import Commons
from palatine_app_server.supervision.foundation import Sockets
from palatine_app_server.supervision.reload_policy import How
from palatine_app_server.system.loop import Loop
from palatine_app_server.system.part import Part


def chosen(
    settings: AppSettings,
    segment: Segment,
    logs: Logs,
    *,
    commons: Commons,
    orders: Orders,
    crew: Crew,
    environ: Mapping[str, str],
    cwd: str,
    loop: Loop,
    emperor: EmperorPipe | None,
    bound: Sockets,
    raise_alarm: Callable[[str, str, str], None],
) -> Iterator[Part]:
    """Those `settings` ask for; what they start gets the app's `environ`, and paths begin in `cwd`."""
    if settings.process.daemons:
        from palatine_app_server.supervision.attached import Attached

        mercy = float(settings.mercy_seconds) if "reload-mercy" in settings.options else 0.0
        yield Attached(
            settings.process.daemons, segment, logs, environ=environ, mercy=mercy, on_control=orders.stop_now
        )
    if settings.process.fd_orders:
        from palatine_app_server.orders.fd_orders import FdOrder, FdOrders

        def obey(order: FdOrder) -> None:
            if order.alarm:
                raise_alarm(order.alarm, order.text, "fd")
                return
            logs.say(f"*** fd {order.fd} is ready, {order.option} ***")
            orders.reload(How.BRUTAL if order.option == "brutal-reload-on-fd" else How.TOGETHER)

        yield FdOrders(settings.process.fd_orders, loop, obey, logs.say)
    yield from _doors(settings, segment, logs, loop, bound, environ if emperor else {})
    yield from _posts(settings, segment, logs, orders, emperor, loop)
    features = settings.features
    aides = [*(Touch(path, MULE) for path in features.mules.touches)]
    aides += [Touch(path, SPOOLER) for path in features.spoolers.touches]
    if aides:

        def reload_aides(touch: Touch) -> None:
            logs.say_dated(f"*** {touch.path} has been touched... {touch.order}s reload !!! ***")
            crew.reload(touch.order)

        yield Touches(aides, reload_aides, logs.say)
    if features.crons:
        from palatine_app_server.scheduling.crons import Crons

        yield Crons(features.crons, segment, logs.say, lambda: logs.child_fd, dict(environ))
    if commons.metrics is not None:
        from palatine_app_server.sharing.metrics import Metrics

        directory = features.metrics.directory
        yield Metrics(
            features.metrics, commons.metrics, segment, commons.metrics_lock,
            directory=os.path.join(cwd, directory) if directory else "",
            raise_alarm=lambda alarm, message: raise_alarm(alarm, message, "metric"), say=logs.say,
        )  # fmt: skip
    stores = commons.stores
    if stores is not None and (stores.caches or stores.queue):
        from palatine_app_server.sharing import sweeper

        yield sweeper.of(features, stores, segment, logs.say)


def _doors(
    settings: AppSettings, segment: Segment, logs: Logs, loop: Loop, bound: Sockets, vassal: Mapping[str, str]
) -> Iterator[Part]:
    """What gives descriptors away; `vassal` is the environment of one, empty for others."""
    start, zerg = settings.process.start, settings.zerg
    if start.namespace_door:
        from palatine_app_server.starting.namespace_door import namespace_door

        cells, word = segment.cells("server"), segment.word("server", "zygote_pid")
        jailed = start.jail.wanted
        yield namespace_door(
            start.namespace_door, start.kept_namespaces, lambda: cells[word] if jailed else 0, loop, logs.say_dated
        )
    if zerg.server or zerg.pools:
        from palatine_app_server.supervision import zergs

        if zerg.server:
            yield zergs.zerg_server(settings, bound.requests, loop, logs.say)
        yield from zergs.zerg_pools(zerg, bound.pooled, loop, logs.say)
    if start.emperor_proxy and vassal:
        from palatine_app_server.orders.emperor_proxy import proxy_door

        yield proxy_door(start.emperor_proxy, vassal, loop, logs.say)


def _posts(
    settings: AppSettings, segment: Segment, logs: Logs, orders: Orders, emperor: EmperorPipe | None, loop: Loop
) -> Iterator[Part]:
    start = settings.process.start
    helped = start.help_seconds or start.help_queue
    if not (start.mountpoints or start.note_socket or start.heartbeat or helped):
        return
    from palatine_app_server.supervision import watch_posts

    if start.mountpoints:
        seconds = float(settings.life.check_seconds)
        yield watch_posts.MountWatch(start.mountpoints, seconds, orders.stop_now, logs.say_dated)
    if start.note_socket:
        yield watch_posts.Notes(start.note_socket, loop, logs)
    if helped and emperor is not None:
        yield watch_posts.CallForHelp(
            emperor, segment, seconds=start.help_seconds, queue=start.help_queue, say=logs.say_dated
        )
    if start.heartbeat and emperor is not None:
        yield watch_posts.Heartbeat(emperor, start.heartbeat)
