"""Typed getters: what each value means, and that errors name where it was written."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palatine.config import Config, Option, Settings, load
from palatine.config.show import inspect_file, resolved
from palatine.errors import ConfigError


def ini(body: str, *argv: str) -> Config:
    data = f"[uwsgi]\n{body}\n".encode()
    return load([*argv, "--ini", "x.ini"], {}, cwd="/", readers={"": lambda _: data})


FLAGS = [
    ("master", True),
    ("master = true", True),
    ("master = 1", True),
    ("master = yes", True),
    ("master = whatever", True),
    ("master = False", False),
    ("master = OFF", False),
    ("master = no", False),
    ("master = 0", False),
    ("master = 1\nmaster = 0", False),
    ("master = 0\nmaster = 1", True),
    ("", False),
    # other options switch it on, unless it is switched off
    ("stats = :1", True),
    ("cheaper = 1", True),
    ("alarm = a log:", True),
    ("log-alarm = a x", True),
    ("req-logger = file:/x", True),
    ("snmp = 127.0.0.1:1", True),
    ("snmp", False),
    ("snmp = true", True),  # uWSGI takes it for an address, and an address wants a master
    ("snmp-community = foo", False),
    ("udp = :1", True),
    ("py-auto-reload = 1", True),
    ("stats = :1\nmaster = false", False),
    ("emperor = /x", False),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), FLAGS)
def test_master(body: str, expected: bool) -> None:  # noqa: FBT001  # a table of examples
    assert ini(body).settings.flag("master") is expected


IMPLIED = [
    ("threads = 2", "enable-threads"),
    ("log-alarm = a x", "log-master"),
    ("req-logger = file:/x", "log-master"),
    ("stats-push = statsd:h:1", "enable-metrics"),
    ("procname-prefix = x", "auto-procname"),
]


@pytest.mark.parametrize(("body", "flag"), IMPLIED)
def test_implied_flags(body: str, flag: str) -> None:
    assert ini(body).settings.flag(flag)
    assert not ini("").settings.flag(flag)
    assert not ini(f"{body}\n{flag} = false").settings.flag(flag)


def test_implied_words_without_a_flag() -> None:
    assert "memory" in ini("reload-on-rss = 1").settings.implied
    assert "cheaper" in ini("cheaper = 1").settings.implied
    assert ini("").settings.implied == frozenset()


INTEGERS = [
    ("4", 4),
    ("", 0),
    (" 7 ", 7),
    ("+5", 5),
    ("007", 7),
    ("0", 0),
    ("false", 0),
    ("off", 0),
    ("None", 0),
    ("30s", 30),
    ("32768 ; inline", 32768),
]


@pytest.mark.parametrize(("value", "expected"), INTEGERS)
def test_integers(value: str, expected: int) -> None:
    assert ini(f"processes = {value}").settings.integer("workers", 9) == expected


def test_integers_that_are_not_there_or_have_no_value() -> None:
    assert ini("").settings.integer("processes", 9) == 9
    assert load(["--ksm"], {}, cwd="/").settings.integer("ksm") == 1


BAD: list[tuple[str, Callable[[Settings], object], str]] = [
    ("processes = four", lambda s: s.integer("processes"), "processes = four: this is not a number"),
    ("processes = --4", lambda s: s.integer("processes"), "this is not a number"),
    ("processes = 0", lambda s: s.integer("processes", minimum=1), "processes = 0: it must be at least 1"),
    ("processes = 5", lambda s: s.integer("processes", maximum=4), "processes = 5: it must be at most 4"),
    ("max-requests = -1", lambda s: s.size("max-requests"), "must not be negative"),
    ("buffer-size = lots", lambda s: s.size("buffer-size"), "this is not a number"),
]


@pytest.mark.parametrize(("body", "getter", "message"), BAD)
def test_bad_values_name_their_place(body: str, getter: Callable[[Settings], object], message: str) -> None:
    config = ini("\n  " + body)
    with pytest.raises(ConfigError, match=r"x\.ini:3:3: ") as caught:
        getter(config.settings)
    assert message in caught.value.message


def test_negative_integers_stop_the_load_as_in_uwsgi() -> None:
    with pytest.raises(ConfigError, match=r"x\.ini:2:1: threads = -1: it must not be negative"):
        ini("threads = -1")


def test_text_after_a_number_is_a_warning_once() -> None:
    config = ini("harakiri = 30s")
    assert [config.settings.integer("harakiri") for _ in range(3)] == [30, 30, 30]
    assert config.warnings == ["x.ini:2:1: harakiri = 30s: everything after the number is ignored"]


SIZES = [
    ("reload-on-rss = 3", "reload-on-rss", 3 << 20),
    ("buffer-size = 70000", "buffer-size", 65535),
    ("buffer-size = 8192", "buffer-size", 8192),
    ("limit-post = 5000000000", "limit-post", 5_000_000_000),
    ("", "limit-post", 12),
]


@pytest.mark.parametrize(("body", "name", "expected"), SIZES)
def test_sizes(body: str, name: str, expected: int) -> None:
    assert ini(body).settings.size(name, 12) == expected


def test_texts_and_lists() -> None:
    settings = ini("callable = a\ncallable = b\nsocket = :1\nuwsgi-socket = :2\nsocket = :3\nchdir").settings
    assert settings.text("callable") == "b"
    assert settings.text("chdir") == ""
    assert settings.text("module") is None
    assert settings.text("module", "x") == "x"
    assert [(item.name, item.value, item.origin.line) for item in settings.items("socket")] == [
        ("socket", ":1", 4),
        ("uwsgi-socket", ":2", 5),
        ("socket", ":3", 6),
    ]
    assert settings.items("http-socket") == []
    given = settings.given("uwsgi-socket")
    assert isinstance(given, Option)
    assert given.value == ":3"
    assert load(["-H", "/v"], {}, cwd="/").settings.text("virtualenv") == "/v"


def test_a_placeholder_is_no_setting() -> None:
    assert ini("set-ph = x=1\nset-placeholder = y=2").settings.text("x") is None


def test_resolved_lists_every_option_with_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "app.ini").write_text(
        "[uwsgi]\nbase = /srv\nchdir = %(base)\nprocesess = 4\nplugins = rack\nkeepalived = 1\nmaster\n"
    )
    config = inspect_file("app.ini", {"UWSGI_MASTER": "0"}, cwd=str(tmp_path))
    lines = resolved(config)
    assert [(str(line.origin), line.name, line.value, line.verdict) for line in lines] == [
        ("command line", "ini", "app.ini", "implemented"),
        ("app.ini:2:1", "base", "/srv", "placeholder"),
        ("app.ini:3:1", "chdir", "/srv", "implemented"),
        ("app.ini:4:1", "procesess", "4", "unknown"),
        ("app.ini:5:1", "plugins", "rack", "refused"),
        ("app.ini:6:1", "keepalived", "1", "unknown"),
        ("app.ini:7:1", "master", "", "no effect"),
    ]
    assert 'did you mean "processes"' in lines[3].reason
    assert "ruby" in lines[4].reason
