"""Instances' numbers as OTLP metrics, and their delivery by HTTP; units and help come from the schema alone."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from palatine import __version__
from palatine.codec import otlp
from palatine.codec.otlp import Instrument, Measure, Resource
from palatine.schema import COUNTER, INSTANCE, Field, by_name
from palatine_stats_exporter.board import Facts
from palatine_stats_exporter.document import UWSGI_VERSION
from palatine_stats_exporter.push.http import Http
from palatine_stats_exporter.push.retry_policy import Outcome
from palatine_stats_exporter.push.settings import Otlp
from palatine_stats_exporter.reading import APP_KEYS, CORE_KEYS, WORKER_KEYS

SCOPE: Final = ("palatine-stats-exporter", __version__)
_PATH: Final = "/v1/metrics"
_NANO: Final = 1_000_000_000
#: UCUM for the units of the schema; anything else is a thing counted, in braces.
_UNITS: Final = {"bytes": "By", "seconds": "s", "microseconds": "us", "boolean": "1", "pid": "1"}
_STATUSES: Final = ("busy", "idle", "cheap", "pause")
_OF_SERVER: Final = ("listen_queue", "listen_queue_errors", "signal_queue", "reloads", "requests_lost")


def measured(facts: Iterable[Facts], host: str, tags: Mapping[str, str]) -> Iterator[tuple[Resource, list[Measure]]]:
    """Each living instance as a resource with its measurements; `tags` are attributes of every resource."""
    for one in facts:
        if one.alive:
            named = {"service.name": one.name, "service.instance.id": f"{host}/{one.name}", "host.name": host}
            version = {"uwsgi.version": UWSGI_VERSION}
            resource = Resource({**named, **version, **tags}, one.server.get("started", 0) * _NANO)
            yield resource, list(_measures(one))


def _measures(facts: Facts) -> Iterator[Measure]:
    for name, instrument in _SERVER.items():
        yield Measure(instrument, {}, facts.server.get(name, 0))
    workers, cores = facts.columns.workers, facts.columns.cores
    for word in _STATUSES:
        found = sum(status == word for status in workers["status"])
        yield Measure(_WORKERS, {"uwsgi.worker.status": word}, found)
    for row, number in enumerate(workers["id"]):
        if not number:  # a slot cheaper has never used
            continue
        worker = {"uwsgi.worker.id": str(number)}
        for key, instrument in _WORKER.items():
            yield Measure(instrument, worker, int(workers[key][row]))
        for core in range(facts.cores):
            attributes = {**worker, "uwsgi.core.id": str(core)}
            for key, instrument in _CORE.items():
                yield Measure(instrument, attributes, cores[key][row * facts.cores + core])
        for said, app in zip(facts.apps, facts.columns.apps, strict=True):
            attributes = {**worker, "uwsgi.app.id": str(said["id"]), "uwsgi.app.mountpoint": str(said["mountpoint"])}
            for key, instrument in _APP.items():
                yield Measure(instrument, attributes, app[key][row])


def _instrument(table: str, name: str, group: str = "") -> Instrument:
    declared = by_name(INSTANCE)[table]
    field: Field = declared.fields[declared.word(name)]
    unit = _UNITS.get(field.unit, f"{{{field.unit}}}")
    return Instrument(f"uwsgi.{group}{'.' if group else ''}{name}", unit, field.help, field.kind == COUNTER)


def _of_worker(name: str) -> Instrument:
    for table in ("slots", "workers", "cores"):
        if any(field.name == name for field in by_name(INSTANCE)[table].fields):
            return _instrument(table, name, "worker")
    return Instrument(f"uwsgi.worker.{name}", "{requests}", "Requests finished since the worker was last started.")


_WORKERS: Final = Instrument("uwsgi.workers", "{workers}", "Workers by what they do.")
_WORKER: Final = {key: _of_worker(key) for key in WORKER_KEYS if key not in {"id", "status"}}
_SERVER: Final = {key: _instrument("server", key) for key in _OF_SERVER}
_APP: Final = {key: _instrument("apps", key, "app") for key in APP_KEYS}
_CORE: Final = {key: _instrument("cores", key, "core") for key in CORE_KEYS}


class OtlpSink:
    """A collector, by HTTP with JSON."""

    def __init__(self, target: Otlp) -> None:
        headers = {name: value.value for name, value in target.headers.items()}
        self._http = Http(target.url, target.timeout, headers, remark=otlp.rejected)
        self._path = "" if target.names_path else _PATH
        self._gzip = target.gzip

    async def send(self, batch: bytes) -> Outcome:
        """Deliver a request."""
        return await self._http.post_gzip(self._path, {}, batch, "application/json", compressed=self._gzip)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
