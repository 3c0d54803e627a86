"""The stats-exporter's entry and manual; must never do anything at import.

NAME
    palatine-stats-exporter - uWSGI's stats documents, Prometheus metrics and a live page for every app on this host

SYNOPSIS
    palatine-stats-exporter [--http HOST:PORT] [--runtime-dir DIR] [--config FILE] [common options]

DESCRIPTION
    Serves the stats sockets of app-server instances. An instance asks for one with uWSGI's options (stats = ADDR,
    stats-http, stats-minified, stats-no-cores, stats-no-metrics); its master binds the socket and hands it over. The
    exporter reads the counters out of shared memory: no app and no master is ever asked, and a busy one delays nothing.

    The document is uWSGI's, key for key, so uwsgitop, telegraf and uwsgi_exporter see what they always saw. HTTP
    clients and raw ones are told apart on one port: with stats-http a request is awaited for up to 4 seconds, without
    it a client that says nothing for 50 ms gets the document raw. `vars` has method, URI, host and peer of a running
    request, with the app's `stats-vars = full` every variable; secrets are masked.

    With an HTTP address of its own the exporter also serves, for all instances together:

        /                    a page that shows them live, with hours of history; needs nothing from elsewhere
        /metrics             Prometheus text format or OpenMetrics, with uwsgi_exporter's names and more
        /probe?target=ADDR   the metrics of one stats socket, where `probe` allows
        /api/v1/...          JSON, described at /api/v1/openapi.json; /api/v1/events live

    The exporter starts before or after the apps and restarts at any time: the masters keep their sockets, so a client
    sees a delay and never a refusal.

OPTIONS
    --http HOST:PORT    serve pages and metrics there (default: what the file says; none without it)

FILES
    <runtime>/i/NAME/seg                counters of instance NAME
    <runtime>/i/NAME/handoff            where its master hands over sockets
    <runtime>/emperor/handoff           where the emperor hands over its own
    <state>/push/TARGET/                what TARGET has not got yet
    <runtime>/stats-exporter/seg, ctl   the exporter's own counters, and its control endpoint
    /etc/palatine/stats-exporter.yaml   http: {listen: 127.0.0.1:9117, user: ops, password: {file: PATH}}
                                        push: {influxdb: [{url: "http://127.0.0.1:8086", database: uWSGI}]}
                                        and more targets: docs/stats-push.md; HUP rereads this section
                                        operators, log-level: as for every daemon

SECURITY
    Needs to read the segments and to connect to `handoff`: run it as a user of group palatine. Everything it serves is
    read-only. The stats sockets are where the apps' configs put them; whoever can connect sees URIs of running
    requests. Pages have no login unless `http` has `user` and `password` or, on loopback, `proxy-header`.
    Clients, documents and waits are bounded; one instance's listener or counters, however odd, cannot hold up
    another's.

DIAGNOSTICS
    `ctl status` shows the sockets served and counts; the table `exporter` of the exporter's segment has them too.
    Log events: instance.serving, instance.dropped, instance.waiting (with the reason), stats.failed, http.serving.

EXIT STATUS
    0 stopped as asked, 2 usage, 70 a fault of ours, 75 another exporter serves this runtime directory, 77 no
    permission, 78 bad configuration.
"""

import sys
from argparse import ArgumentParser

import attrs

from palatine import places
from palatine.daemon import Context, Spec, run
from palatine.schema import EXPORTER
from palatine_stats_exporter.access import Http, check
from palatine_stats_exporter.instances import DAEMON
from palatine_stats_exporter.push.settings import Push


@attrs.frozen
class Settings:
    """What `/etc/palatine/stats-exporter.yaml` may say."""

    http: Http | None = None
    push: Push | None = None


def add_arguments(parser: ArgumentParser) -> None:
    """The exporter's own options."""
    parser.add_argument("--http", metavar="HOST:PORT", help="serve pages and metrics there")


async def serve(ctx: Context) -> None:
    """The daemon's main."""
    from palatine_stats_exporter.service import serve as serve_all

    settings: Settings = ctx.settings
    http = settings.http or Http()
    #: The file is the host's: one app's own exporter would take the host's port, and hold the page of one app there.
    listen = "" if places.is_private(ctx.runtime_dir) else http.listen
    http = attrs.evolve(http, listen=ctx.args.http or listen)
    check(http)
    await serve_all(ctx, http)


SPEC = Spec(
    name=DAEMON,
    doc=__doc__ or "",
    main=serve,
    tables=EXPORTER,
    add_arguments=add_arguments,
    config=Settings,
    drain_seconds=5.0,
)


def main() -> int:
    """The command `palatine-stats-exporter`."""
    return run(SPEC)


if __name__ == "__main__":
    sys.exit(main())
