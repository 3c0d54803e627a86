"""The option table against facts, and what it costs."""

import sys
import tracemalloc

import pytest

from palatine.config.options import OPTIONS
from palatine.config.suggest import nearest
from palatine.config.table import OWN, SHORT, Kind, Table

KINDS = [
    ("processes", Kind("processes", "req", "int")),
    ("workers", Kind("processes", "req", "int")),
    ("uwsgi-socket", Kind("socket", "req", "list")),
    ("wsgi", Kind("module", "req", "text")),
    ("file", Kind("wsgi-file", "req", "text")),
    ("venv", Kind("home", "req", "text")),
    ("stats-server", Kind("stats", "req", "text", ("master",))),
    ("snmp", Kind("snmp", "opt", "text")),
    ("chmod", Kind("chmod-socket", "opt", "text")),
    ("ini", Kind("ini", "req", "list", (), immediate=True)),
    ("reload-on-rss", Kind("reload-on-rss", "req", "megabytes", ("memory",))),
    ("buffer-size", Kind("buffer-size", "req", "short")),
    ("alarm-log", Kind("log-alarm", "req", "list", ("log-master", "master"))),
    ("max-requests", Kind("max-requests", "req", "size")),
    ("rack", Kind("rack", "req", "text", ("post-buffering",), language="ruby")),
    ("pivot_root", Kind("pivot-root", "req", "text")),
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_kinds(name: str, kind: Kind) -> None:
    assert Table().find(name) == kind


@pytest.mark.parametrize(
    "name", ["", "procesess", "none", "req list", "rocesses", "processe", "a,", "=socket", ":none", "-"]
)
def test_no_options(name: str) -> None:
    assert Table().find(name) is None
    assert Table().canonical(name) == name


def test_every_name_of_uwsgi_is_there_and_every_alias_leads_to_an_option() -> None:
    table = Table()
    names = [name for name in table.names() if name not in {kind.name for kind in OWN}]
    assert len(names) == len(set(names)) == 1254
    for name in names:
        kind = table.find(name)
        assert kind is not None, name
        canonical = table.find(kind.name)
        assert canonical is not None, kind.name
        assert canonical.name == kind.name
        assert kind.argument in {"none", "opt", "req"}
        assert kind.type in {"flag", "int", "signed", "short", "size", "megabytes", "text", "list"}


def test_short_options_are_options() -> None:
    table = Table()
    assert {letter for letter, name in SHORT.items() if table.find(name) is None} == set()


def test_the_table_stays_small() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        table = Table()
        for name, _ in KINDS * 3:
            table.find(name)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    total = used + sys.getsizeof(OPTIONS)
    print(f"option table: {sys.getsizeof(OPTIONS)} bytes of text, {used} bytes for {len(KINDS)} names")
    assert total < 100_000


NEAREST = [
    ("procesess", "processes"),
    ("max_requests", "max-requests"),
    ("http_socket", "http-socket"),
    ("htp-socket", "http-socket"),
    ("thread", "threads"),
    ("mastre", "master"),
    ("wsgi_file", "wsgi-file"),
    ("zzzz", None),
    ("", None),
]


@pytest.mark.parametrize(("typed", "meant"), NEAREST)
def test_suggestions(typed: str, meant: str | None) -> None:
    assert nearest(typed, Table().names()) == meant
