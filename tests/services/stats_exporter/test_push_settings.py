import pytest

from palatine.daemon.settings import parse_document, typed
from palatine.errors import ConfigError
from palatine_stats_exporter.__main__ import Settings
from palatine_stats_exporter.push.settings import Influx, InfluxV2, Push


def push(text: str) -> Push:
    found = typed(parse_document(text, "f.yaml"), Settings).push
    assert found is not None
    return found


def test_what_targets_share() -> None:
    found = push(
        """
        push:
          interval: 5
          tags: {dc: ams, rack: "1"}
          influxdb:
            - {url: "http://db:8086"}
            - {url: "udp://db:8089", interval: 1, tags: {rack: "2"}}
          influxdb-v2:
            - {url: "https://db", org: us, bucket: uwsgi, token: hush}
        """
    )
    first, second, third = found.targets()
    assert isinstance(first, Influx)
    assert (first.database, first.interval, first.tags) == ("uWSGI", 5, {"dc": "ams", "rack": "1"})
    assert (second.interval, second.tags) == (1, {"dc": "ams", "rack": "2"})
    assert isinstance(third, InfluxV2)
    assert "hush" not in repr(found)
    assert len({target.name for target in found.targets()}) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("influxdb: [{url: 'ftp://db'}]", "f.yaml:2:20: 'url' must be a URL of http, https, unix, udp"),
        ("influxdb: [{url: 'udp://db'}]", "'url' must be a URL"),
        ("influxdb: [{url: 'http://u:p@db'}]", "holds a password"),
        ("influxdb: [{url: 'http://db', databse: x}]", "unknown key 'databse'; did you mean 'database'?"),
        ("influxdb: [{url: 'http://db', database: ''}]", "'database' must not be empty"),
        ("influxdb: [{url: 'http://db', interval: 0}]", "'interval' must be at least 0.1"),
        ("influxdb: [{url: 'http://db', buffer-bytes: 5}]", "'buffer_bytes' must be at least"),
        ("influxdb: [{database: x}]", "'url' is missing"),
        ("influxdb: {url: 'http://db'}", "must be a list"),
        ("influxdb-v2: [{url: 'http://db', org: o, bucket: b}]", "'token' is missing"),
        ("tags: [a]", "must be a mapping"),
        ("influx: []", "did you mean 'influxdb'"),
    ],
)
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        push(f"push:\n  {line}\n")
    assert message in str(found.value)
    assert str(found.value).startswith("f.yaml:2:")
