"""What the first words of a `palatine` command line ask for: a pure decision, before anything is loaded."""

import difflib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

#: Commands and what they are for, in the order of the help page.
COMMANDS: Final = {
    "up": "run all daemons and your apps under one parent",
    "status": "what runs here, and how it does",
    "top": "apps and their workers, live",
    "reload": "reload apps, reread a daemon's configuration",
    "stop": "drain and stop apps and daemons",
    "log-level": "change how much a daemon logs",
    "alarm": "list and raise alarms, see what is not delivered yet",
    "vassal": "list, touch and destroy an emperor's vassals",
    "emperor": "stop the emperor, with or without its vassals",
    "snmp": "look at what an SNMP agent shows, print the MIB",
    "config": "show or check a configuration as it will be read",
    "doctor": "find out why something does not work",
}

#: uWSGI takes a bare word for a config file if it ends so.
CONFIG_ENDINGS: Final = (".ini", ".xml", ".yaml", ".yml", ".json", ".js")


class Become(NamedTuple):
    """Be the app-server, with these words."""

    words: list[str]


class Command(NamedTuple):
    """Run a command of our own."""

    name: str
    words: list[str]


class Wrong(NamedTuple):
    """Neither: say why."""

    message: str


class Page(NamedTuple):
    """Show the help page, because it was `asked` for or because nothing was said."""

    asked: bool


class Version(NamedTuple):
    """Show the version; that of the uWSGI whose place palatine takes, where scripts ask for that."""

    of_uwsgi: bool = False


Choice = Become | Command | Wrong | Page | Version


def choose(program: str, words: Sequence[str], is_file: Callable[[str], bool]) -> Choice:
    """What `program words...` asks for; `program` is the base name it was called by."""
    if program == "uwsgi":
        return Version(of_uwsgi=True) if list(words) == ["--version"] else Become(list(words))
    if not words:
        return Page(asked=False)
    first, rest = words[0], list(words[1:])
    if list(words) == ["help"] or (first in {"-h", "--help"} and not rest):
        return Page(asked=True)
    if first == "help":
        return Command(rest[0], [*rest[1:], "--help"]) if rest[0] in COMMANDS else Wrong(_no_command(rest[0]))
    if first == "--version" and not rest:
        return Version()
    if first in COMMANDS:
        return Command(first, rest)
    if first.startswith("-") or first.endswith(CONFIG_ENDINGS):
        return Become(list(words))
    return Wrong(_no_config(first) if is_file(first) else _unknown(first))


def _no_config(word: str) -> str:
    base, _, section = word.rpartition(":")
    if base.endswith(CONFIG_ENDINGS):
        return f"{word}: a section is asked for by --ini {base}:{section}"
    return f"{word} exists, but its name does not say what it is; use --ini {word} (or --xml, --yaml, --json)"


def _unknown(word: str) -> str:
    base = word.rpartition(":")[0]
    if base.endswith(CONFIG_ENDINGS):
        return _no_config(word)
    return f"{word!r} is neither a command nor a configuration file ({', '.join(CONFIG_ENDINGS)}){_hint(word)}"


def _no_command(word: str) -> str:
    return f"no command is called {word!r}{_hint(word)}"


def _hint(word: str) -> str:
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
