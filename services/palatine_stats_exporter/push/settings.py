"""The `push` section of the exporter's YAML file: where numbers go; checked here, used elsewhere."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from palatine.daemon.settings import Secret

#: What telegraf sends into one datagram unless told otherwise: it passes every network.
UDP_BYTES: Final = 512

_SCHEMES: Final = ("http", "https", "unix", "udp")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]+")


def _address(*schemes: str) -> Any:
    def check(_: Any, attribute: "attrs.Attribute[str]", value: str) -> None:
        found = urlsplit(value)
        place = found.path if found.scheme == "unix" else found.hostname
        try:
            complete = bool(place) and (found.scheme != "udp" or found.port is not None)
        except ValueError:
            complete = False
        if found.scheme not in schemes or not complete:
            raise ValueError(f"'{attribute.name}' must be a URL of {', '.join(schemes)}, not {value!r}")
        if found.password:
            raise ValueError(f"'{attribute.name}' holds a password: say it in 'password', which is never shown")

    return check


def _above(least: float) -> Any:
    def check(_: Any, attribute: "attrs.Attribute[Any]", value: float | None) -> None:
        if value is not None and value < least:
            raise ValueError(f"'{attribute.name}' must be at least {least:g}, not {value:g}")

    return check


def _tag_names(_: Any, attribute: "attrs.Attribute[Any]", value: dict[str, str]) -> None:
    for name, text in value.items():
        if not name or not isinstance(text, str):
            raise ValueError(f"'{attribute.name}' must be names and texts")


def _some(_: Any, attribute: "attrs.Attribute[Any]", value: str) -> None:
    if not value:
        raise ValueError(f"'{attribute.name}' must not be empty")


@attrs.frozen(kw_only=True)
class Target:
    """What every place to push to has.

    Attributes:
        url: where it is.
        interval: seconds between two readings, on the clock's multiples of it as telegraf does; None for the common.
        timeout: seconds an attempt may take.
        tags: further tags (or attributes) of every point; an empty one takes `host`, `uwsgi_host` or `instance` away.
        buffer_bytes: what is kept on disk while the place is away; beyond it the oldest goes.
    """

    url: str = attrs.field(validator=_address("http", "https"))
    interval: float | None = attrs.field(default=None, validator=_above(0.1))
    timeout: float = attrs.field(default=5.0, validator=_above(0.1))
    tags: dict[str, str] = attrs.field(factory=dict, validator=_tag_names)
    buffer_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=_above(1024 * 1024))

    @property
    def place(self) -> str:
        """What of the place distinguishes it from others."""
        return self.url

    @property
    def name(self) -> str:
        """A name for logs and the buffer's directory: the same as long as it is the same place."""
        found = urlsplit(self.url)
        readable = _UNSAFE.sub("-", found.netloc.rpartition("@")[2] or found.path).strip("-")
        return f"{readable[:60]}-{hashlib.sha256(self.place.encode()).hexdigest()[:8]}"


@attrs.frozen(kw_only=True)
class Influx(Target):
    """InfluxDB 1.x and what speaks like it, by HTTP, HTTPS, a UNIX socket or UDP; names as telegraf's output has them.

    Attributes:
        url: http://, https://, unix:///path, udp://host:port.
        database, retention_policy: where points go; the server's default policy if empty.
        user, password: HTTP basic authentication.
        create_database: make the database first, as telegraf does.
        gzip: compress what is sent.
    """

    url: str = attrs.field(validator=_address(*_SCHEMES))
    database: str = attrs.field(default="uWSGI", validator=_some)
    retention_policy: str = ""
    user: str = ""
    password: Secret = attrs.field(default=Secret(""))
    create_database: bool = True
    gzip: bool = True

    @property
    def place(self) -> str:
        """The server, database and retention policy."""
        return f"{self.url} {self.database} {self.retention_policy}"


@attrs.frozen(kw_only=True)
class InfluxV2(Target):
    """InfluxDB 2.x, and 1.8 on: a bucket of an organisation, by token."""

    org: str = attrs.field(validator=_some)
    bucket: str = attrs.field(validator=_some)
    token: Secret
    gzip: bool = True

    @property
    def place(self) -> str:
        """The server, organisation and bucket."""
        return f"{self.url} {self.org} {self.bucket}"


@attrs.frozen(kw_only=True)
class Otlp(Target):
    """An OpenTelemetry collector, and what takes OTLP over HTTP as JSON; `tags` are attributes of the resources.

    Attributes:
        url: the server, to which /v1/metrics is added, or the whole path.
        headers: sent with each request, for example an authorization.
    """

    headers: dict[str, Secret] = attrs.field(factory=dict)
    gzip: bool = True

    @property
    def names_path(self) -> bool:
        """Whether the URL has a path of its own, as OTEL_EXPORTER_OTLP_METRICS_ENDPOINT has."""
        return urlsplit(self.url).path not in {"", "/"}


@attrs.frozen(kw_only=True)
class Push:
    """The section: what all targets share, and the targets of each kind."""

    interval: float = attrs.field(default=10.0, validator=_above(0.1))
    tags: dict[str, str] = attrs.field(factory=dict, validator=_tag_names)
    influxdb: list[Influx] = attrs.field(factory=list)
    influxdb_v2: list[InfluxV2] = attrs.field(factory=list)
    otlp: list[Otlp] = attrs.field(factory=list)

    def targets(self) -> Iterator[Target]:
        """All targets, with what they share."""
        for target in (*self.influxdb, *self.influxdb_v2, *self.otlp):
            yield attrs.evolve(target, interval=target.interval or self.interval, tags={**self.tags, **target.tags})
