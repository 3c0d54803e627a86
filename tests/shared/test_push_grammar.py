import pytest

from palatine.codec.push_grammar import Wish, parse_carbon, parse_push
from palatine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("statsd:127.0.0.1:8125", Wish("statsd", "127.0.0.1:8125", 3, {"prefix": "uwsgi"})),
        ("statsd:[::1]:8125,my", Wish("statsd", "[::1]:8125", 3, {"prefix": "my"})),
        ("socket:host:1,a,b", Wish("socket", "host:1", 3, {"prefix": "a,b"})),
        ("zabbix", Wish("zabbix", "127.0.0.1:10051", 3, {"prefix": "uwsgi"})),
        ("zabbix:z:1,p", Wish("zabbix", "z:1", 3, {"prefix": "p"})),
        ("file", Wish("file", "uwsgi.stats", 3, {"separator": "\n\n"})),
        ("file:path=/tmp/x,freq=10,separator=;", Wish("file", "/tmp/x", 10, {"separator": ";"})),
        ("mongodb", Wish("mongodb", "127.0.0.1:27017", 3, {"collection": "uwsgi.statistics"})),
        ("mongodb:addr=h:1,collection=a.b,freq=9", Wish("mongodb", "h:1", 9, {"collection": "a.b"})),
        ("rrdtool:/var/rrd", Wish("rrdtool", "/var/rrd", 300, {})),
    ],
)
def test_what_uwsgi_takes(text: str, wish: Wish) -> None:
    assert parse_push(text) == wish


def test_frequencies() -> None:
    assert parse_push("statsd:h:1", 7).seconds == 7
    assert parse_push("rrdtool:/d", 7, 60).seconds == 60
    assert parse_carbon("h:2003", 9, {}) == Wish("carbon", "h:2003", 9, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("statds:h:1", "there is no stats pusher 'statds'"),
        ("", "there is no stats pusher ''"),
        ("statsd", "statsd takes HOST:PORT"),
        ("statsd:h:99999", "statsd takes HOST:PORT"),
        ("statsd::1", "statsd takes HOST:PORT"),
        ("zabbix:h", "zabbix takes HOST:PORT"),
        ("file:paht=x", "unknown key 'paht'"),
        ("file:freq=often", "freq takes seconds"),
        ("rrdtool", "names no directory"),
        ("mongodb:addr=x", "mongodb takes HOST:PORT"),
        ("mongodb:collection=x", "DATABASE.COLLECTION"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_push(text)
