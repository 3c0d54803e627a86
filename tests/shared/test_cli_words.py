import pytest

from palatine.cli.page import page
from palatine.cli.words import COMMANDS, Become, Choice, Command, Page, Version, Wrong, choose

HERE = {"up", "vassals", "app.conf"}

TABLE: list[tuple[str, list[str], Choice]] = [
    ("palatine", [], Page(asked=False)),
    ("palatine", ["--help"], Page(asked=True)),
    ("palatine", ["-h"], Page(asked=True)),
    ("palatine", ["help"], Page(asked=True)),
    ("palatine", ["help", "up"], Command("up", ["--help"])),
    ("palatine", ["help", "alarm", "raise"], Command("alarm", ["raise", "--help"])),
    ("palatine", ["help", "statsu"], Wrong("no command is called 'statsu'; did you mean 'status'?")),
    ("palatine", ["--version"], Version()),
    ("palatine", ["status", "--json"], Command("status", ["--json"])),
    ("palatine", ["up"], Command("up", [])),
    ("palatine", ["hello.ini"], Become(["hello.ini"])),
    ("palatine", ["no-such.yaml", "--master"], Become(["no-such.yaml", "--master"])),
    ("palatine", ["--ini", "up"], Become(["--ini", "up"])),
    ("palatine", ["-s", ":3031"], Become(["-s", ":3031"])),
    ("palatine", ["--http", ":9090", "--help"], Become(["--http", ":9090", "--help"])),
    ("palatine", ["--emperor", "/etc/vassals"], Become(["--emperor", "/etc/vassals"])),
    ("uwsgi", ["status"], Become(["status"])),
    ("uwsgi", [], Become([])),
    ("uwsgi", ["--version"], Version(of_uwsgi=True)),
    ("uwsgi", ["--version", "--ini", "x.ini"], Become(["--version", "--ini", "x.ini"])),
]


@pytest.mark.parametrize(("program", "words", "choice"), TABLE)
def test_what_the_first_words_ask_for(program: str, words: list[str], choice: Choice) -> None:
    assert choose(program, words, HERE.__contains__) == choice


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("statsu", "'statsu' is neither a command nor a configuration file"),
        ("statsu", "did you mean 'status'?"),
        ("frobnicate", "(.ini, .xml, .yaml, .yml, .json, .js)"),
        ("app.conf", "app.conf exists, but its name does not say what it is; use --ini app.conf"),
        ("x.ini:production", "a section is asked for by --ini x.ini:production"),
        ("convert", "neither a command"),
    ],
)
def test_a_word_that_is_neither_is_explained(word: str, hint: str) -> None:
    choice = choose("palatine", [word], HERE.__contains__)
    assert isinstance(choice, Wrong)
    assert hint in choice.message


def test_the_page_fits_a_screen_and_names_every_command() -> None:
    text = page(colour=False)
    assert all(f"  {name} " in text for name in COMMANDS)
    assert len(text.splitlines()) <= 32
    assert max(map(len, text.splitlines())) <= 96
    assert "\033" not in text
    assert "\033[1m" in page(colour=True)
