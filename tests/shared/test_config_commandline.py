"""getopt_long's rules from one table; the real uwsgi is asked the same in test_config_interop."""

import pytest

from palatine.config import load
from palatine.config.commandline import read_words
from palatine.config.table import Table
from palatine.errors import ConfigError

WORDS = [
    (["--master"], [("master", None)]),
    (["--processes", "4"], [("processes", "4")]),
    (["--processes=4"], [("processes", "4")]),
    (["--env=A=b"], [("env", "A=b")]),
    (["--processes", "--master"], [("processes", "--master")]),
    (["-Mp", "4"], [("master", None), ("processes", "4")]),
    (["-Mp4", "-s:1"], [("master", None), ("processes", "4"), ("socket", ":1")]),
    (["-C666", "-C"], [("chmod-socket", "666"), ("chmod-socket", None)]),
    (["-MTiL"], [("master", None), ("enable-threads", None), ("single-interpreter", None), ("disable-logging", None)]),
    (["-w", "mod:app", "-H", "/v"], [("module", "mod:app"), ("home", "/v")]),
    (["a.ini", "-M", "b.ini"], [("master", None), ("", "a.ini"), ("", "b.ini")]),
    (["-M", "--", "-p", "--x"], [("master", None), ("", "-p"), ("", "--x")]),
    (["-"], [("", "-")]),
    (["--processe", "4"], [("processes", "4")]),
    (["--snmp"], [("snmp", None)]),
    (["--snmp=:1"], [("snmp", ":1")]),
    (["--snmp="], [("snmp", "")]),
    (["--snmp", "--snmp-community", "foo"], [("snmp", None), ("snmp-community", "foo")]),
    (["--alarm-cheap"], [("alarm-cheap", None)]),
    (["--name", "blog"], [("name", "blog")]),
    ([], []),
]


@pytest.mark.parametrize(("argv", "expected"), WORDS)
def test_words(argv: list[str], expected: list[tuple[str, str | None]]) -> None:
    assert [(word.name, word.value) for word in read_words(argv, Table())] == expected


ERRORS = [
    (["--procesess"], 'command line: unrecognized option --procesess; did you mean "--processes"?'),
    (["--zzzzz"], "command line: unrecognized option --zzzzz"),
    (["-MZ"], "command line: unrecognized option -Z"),
    (["--=x"], "command line: unrecognized option --"),
    (["--master=1"], "command line: --master takes no argument"),
    (["--processes"], "command line: --processes needs an argument"),
    (["-Mp"], "command line: -p needs an argument"),
    (["--proc", "4"], "command line: --proc is ambiguous: --processes, --procname, --procname-append"),
    (["--snmp", "127.0.0.1:1"], "for --snmp write --snmp=127.0.0.1:1"),
    (["x.ini:sec"], "a section is chosen with --ini x.ini:sec"),
    (["app.py"], "an app's file is named with --wsgi-file app.py"),
    (["app:application"], "an app is named with --module app:application"),
    (["app"], "its name must end in .ini, .xml, .yaml, .yml, .json, .js"),
]


@pytest.mark.parametrize(("argv", "message"), ERRORS)
def test_what_getopt_would_refuse(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(argv, {}, cwd="/nowhere")
    assert message in str(caught.value)


def test_an_option_may_be_declared_by_the_one_before_it() -> None:
    config = load(["--declare-option", "blog=processes=$1", "--blog", "3"], {}, cwd="/")
    assert config.settings.integer("processes") == 3
    with pytest.raises(ConfigError, match="unrecognized option --blog"):
        load(["--blog", "3", "--declare-option", "blog=processes=$1"], {}, cwd="/")
