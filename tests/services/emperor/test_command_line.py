"""Vassals' command lines and environments, against what a real Emperor's vassals saw (alarm_emperor samples 05, 06)."""

import attrs
import pytest

from palatine_emperor.command_line import Place, arguments, environment, flag_of, is_valid_name
from palatine_emperor.settings import Settings
from palatine_emperor.vassal import Wanted

FILE = Wanted("one.ini", 1, "/v")
PLACE = Place("one.ini", "/run/palatine", "")


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("a.xml", "--xml"),
        ("a.ini", "--ini"),
        ("a.yml", "--yaml"),
        ("a.yaml", "--yaml"),
        ("a.js", "--json"),
        ("a.json", "--json"),
        ("/x/.hidden.ini", "--ini"),
        ("a.lua", "--config"),
        ("a.txt", None),
        ("ini", None),
        (".ini", None),
    ],
)
def test_flags(name: str, flag: str | None) -> None:
    assert flag_of(name, (".lua",)) == flag
    assert is_valid_name(name, (".lua",)) == (flag is not None)


def test_names_that_are_none() -> None:
    assert not is_valid_name("a\n.ini")
    assert not is_valid_name("x" * 251 + ".ini")
    assert is_valid_name("x" * 250 + ".ini")


def test_templates_stand_where_uwsgi_puts_them() -> None:
    settings = Settings(
        vassals_inherit=("after.ini",),
        vassals_include=("after2.ini",),
        vassals_inherit_before=("before.ini",),
        vassals_include_before=("before2.ini",),
        vassal_set=("a=1", "b=2"),
    )
    assert " ".join(arguments(FILE, settings, None, "/usr/bin/uwsgi")) == (
        "/usr/bin/uwsgi --inherit before.ini --include before2.ini --set a=1 --set b=2 --ini one.ini"
        " --inherit after.ini --include after2.ini"
    )


def test_palatine_s_own_vassals_share_the_emperor_s_runtime_directory() -> None:
    assert " ".join(arguments(FILE, Settings(), PLACE)) == (
        "palatine-app-server --name one.ini --runtime-dir /run/palatine --ini one.ini"
    )
    assert "--state-dir" in arguments(FILE, Settings(), attrs.evolve(PLACE, state_dir="/s"))


def test_sources() -> None:
    assert arguments(attrs.evolve(FILE, config=b"x"), Settings(), PLACE)[-2:] == ("--ini", "emperor://one.ini")
    assert arguments(attrs.evolve(FILE, executable=True), Settings(), PLACE)[-2:] == ("--ini", "exec://one.ini")


def test_the_environment_of_a_vassal() -> None:
    environ = {
        "PATH": "/bin",
        "UWSGI_VASSAL_SOCKET": ":3031",
        "UWSGI_SOCKET": "lost to the vassal's own",
        "UWSGI_VASSALS_DIR": "/other",
        "UWSGI_EMPEROR": "/v",
        "UWSGI_EMPEROR_FD": "9",
        "NOTIFY_SOCKET": "/n",
        "PALATINE_UMBRELLA": "1",
    }
    assert environment(FILE, environ) == {"PATH": "/bin", "UWSGI_SOCKET": ":3031", "UWSGI_VASSALS_DIR": "/v"}
