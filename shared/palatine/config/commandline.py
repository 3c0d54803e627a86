"""The command line as uWSGI reads it: getopt_long's rules over the option table. Must never act on an option.

`--name value`, `--name=value`, unique abbreviations, `-s value`, `-svalue`, clusters like `-Mp 4`, options after
bare arguments, `--` to end them. An option whose argument is optional takes it only in the same word.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from palatine.codec.config_source import Origin
from palatine.config.suggest import did_you_mean
from palatine.config.table import SHORT, Kind, Table

#: Where options of the command line say they come from.
COMMAND_LINE: Final = Origin("command line")


class Word(NamedTuple):
    """One option, or where `name` is "" one bare argument. `value` is None for an option that was given none.

    `optional` is the option just before a bare argument that would have taken it after a `=`.
    """

    name: str
    value: str | None
    optional: str = ""


def read_words(argv: Sequence[str], table: Table) -> Iterator[Word]:
    """The options of `argv` (without the program's name) in order, then its bare arguments.

    Looks into `table` only when a word is asked for, so an option may be declared by the one before it.
    Raises ConfigError for what getopt_long would refuse.
    """
    bare: list[Word] = []
    optional = ""
    words = iter(argv)
    for text in words:
        if text == "--":
            bare += [Word("", rest) for rest in words]
        elif text == "-" or not text.startswith("-"):
            bare.append(Word("", text, optional))
        else:
            for word in _long(text[2:], table, words) if text.startswith("--") else _cluster(text[1:], table, words):
                yield word
                kind = table.find(word.name)
                optional = word.name if kind and kind.argument == "opt" and word.value is None else ""
            continue
        optional = ""
    yield from bare


def _long(text: str, table: Table, words: Iterator[str]) -> Iterator[Word]:
    typed, equals, given = text.partition("=")
    name, kind = _resolve(typed, table)
    value = given if equals else None
    if kind.argument == "none" and equals:
        raise COMMAND_LINE.error(f"--{name} takes no argument")
    if kind.argument == "req" and not equals:
        value = _argument(f"--{name}", kind, words)
    yield Word(name, value)


def _cluster(letters: str, table: Table, words: Iterator[str]) -> Iterator[Word]:
    while letters:
        letter, letters = letters[0], letters[1:]
        name = SHORT.get(letter)
        kind = table.find(name) if name else None
        if name is None or kind is None:
            raise COMMAND_LINE.error(f"unrecognized option -{letter}")
        if kind.argument == "none":
            yield Word(name, None)
            continue
        value: str | None = letters or None
        if value is None and kind.argument == "req":
            value = _argument(f"-{letter}", kind, words)
        yield Word(name, value)
        return


def _argument(shown: str, kind: Kind, words: Iterator[str]) -> str | None:
    value = next(words, None)
    # uWSGI declares a few switches, such as alarm-cheap, as if they needed a value; documents show them without
    if value is None and kind.type != "flag":
        raise COMMAND_LINE.error(f"{shown} needs an argument")
    return value


def _resolve(typed: str, table: Table) -> tuple[str, Kind]:
    """The option `typed` names, in full or by an abbreviation only one option has."""
    kind = table.find(typed)
    if kind:
        return typed, kind
    matches = [name for name in table.names() if typed and name.startswith(typed)]
    if len({table.canonical(name) for name in matches}) > 1:
        raise COMMAND_LINE.error(f"--{typed} is ambiguous: {', '.join('--' + name for name in sorted(matches)[:5])} …")
    kind = table.find(matches[0]) if matches else None
    if kind is None:
        raise COMMAND_LINE.error(f"unrecognized option --{typed}{did_you_mean(typed, table.names(), '--')}")
    return matches[0], kind
