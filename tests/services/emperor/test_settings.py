"""Settings from YAML and from uWSGI's words."""

from pathlib import Path

import pytest

from palatine.daemon import parse_document, typed
from palatine.errors import ConfigError
from palatine_emperor.settings import Settings, read_words, split_words


def test_the_seed_s_command_lines() -> None:
    words = read_words(["--plugin", "emperor_zeromq", "--emperor", "zmq://tcp://127.0.0.1:5252"], "/")
    assert words.over(Settings()).emperors == ("zmq://tcp://127.0.0.1:5252",)
    assert words.daemon == ()


def test_words_override_the_file_and_add_to_its_lists() -> None:
    text = "emperors: [/etc/one, 'glob:///etc/two/*.ini']\nemperor-freq: 5\nvassal-set: [a=1]\nemperor-tyrant: true\n"
    base = typed(parse_document(text), Settings)
    argv = "--emperor /etc/three --emperor-freq 1 --vassals-set b=2 --emperor-no-blacklist --emperor-throttle=50"
    settings = read_words(argv.split(), "/").over(base)
    assert settings.emperors == ("/etc/one", "glob:///etc/two/*.ini", "/etc/three")
    assert settings.vassal_set == ("a=1", "b=2")
    assert settings.emperor_tyrant
    assert (settings.limits.throttle.freq, settings.limits.throttle.step, settings.limits.throttle.enabled) == (
        1,
        50,
        False,
    )


def test_words_from_a_file_as_debian_has_it(tmp_path: Path) -> None:
    ini = tmp_path / "emperor.ini"
    ini.write_text("[uwsgi]\nmaster = true\nworkers = 2\nno-orphans = true\nlog-date = true\nuid = www-data\n"
                   "emperor = /etc/uwsgi-emperor/vassals\n")  # fmt: skip
    words = read_words(["--ini", str(ini), "--runtime-dir", "/r"], "/")
    assert words.over(Settings()).emperors == ("/etc/uwsgi-emperor/vassals",)
    assert words.daemon == ("--runtime-dir", "/r", "--user", "www-data")


def test_words_of_a_daemon_and_of_uwsgi_that_look_alike() -> None:
    argv = ["--config", "/etc/emperor.yaml", "--emperor=x", "--log-format=json", "--log-format", "%(method)"]
    assert split_words(argv) == (
        ["--config", "/etc/emperor.yaml", "--log-format", "json"],
        ["--emperor=x", "--log-format", "%(method)"],
    )


def test_bad_values_have_a_place() -> None:
    with pytest.raises(ConfigError, match="emperor-freq must be above 0"):
        read_words(["--emperor-freq", "0"], "/").over(Settings())
    with pytest.raises(ConfigError, match=r"x\.yaml:2"):
        typed(parse_document("emperors: []\nemperor-freq: often\n", "x.yaml"), Settings)
    with pytest.raises(ConfigError, match="did you mean 'emperor-freq'"):
        typed(parse_document("emperor-frequency: 3\n", "x.yaml"), Settings)
