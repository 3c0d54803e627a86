"""docs/options.md, written from the table the programs go by; must never say anything the table does not."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from palatine.config.effects import IMPLEMENTED, NO_EFFECT, NOT_YET, REFUSED, Effect, Effects
from palatine.config.options import OPTIONS
from palatine.config.table import SHORT, Table

_MARKS: Final = {IMPLEMENTED: "", NO_EFFECT: "*no effect:* ", REFUSED: "**refused:** ", NOT_YET: "**not yet:** "}

_HEAD: Final = """\
# All options

Every option of uWSGI 2.0.31 and what it does here. This page is made from the table the programs go by
(`palatine config options`); `palatine config check FILE` says the same of each line of your configuration, with
file:line:column, and so does a start, for what it cannot do. It exits with 0, or with 78 where an app-server would
refuse the configuration. Other spellings of an option follow it in brackets.

{counts}
"""


def counts() -> dict[str, int]:
    """How many of uWSGI's spellings have which verdict."""
    table, effects = Table(), Effects()
    found: Counter[str] = Counter()
    for name in table.names():
        kind = table.find(name)
        if kind is not None and table.is_uwsgi(name):
            found[effects.of(kind).verdict] += 1
    return {verdict: found[verdict] for verdict in _MARKS}


def page() -> str:
    """The page, as Markdown."""
    table, effects = Table(), Effects()
    spellings = _spellings(table)
    parts = [_HEAD.format(counts=_in_words(counts()))]
    for title, groups in effects.sections():
        parts.append(f"\n## {title}\n\n| option | what it does here |\n|---|---|\n")
        parts += [_row([_shown(name, spellings) for name in names], effect) for names, effect in groups]
    parts.append("\n## Other languages\n\n| language | options | |\n|---|---|---|\n")
    parts += _languages(table, effects)
    return "".join(parts)


def _in_words(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    shown = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    return f"Of {total} spellings: {shown}."


def _row(names: list[str], effect: Effect) -> str:
    return f"| {', '.join(names)} | {_MARKS[effect.verdict]}{_cell(effect.text)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _shown(name: str, spellings: dict[str, list[str]]) -> str:
    others = spellings.get(name, [])
    letters = [f"-{letter}" for letter, long in SHORT.items() if long == name]
    more = [*others, *letters]
    return f"`{name}`" + (f" ({', '.join(f'`{one}`' for one in more)})" if more else "")


def _spellings(table: Table) -> dict[str, list[str]]:
    """Other names by canonical name, without another language's."""
    found: dict[str, list[str]] = {}
    for name in table.names():
        canonical = table.canonical(name)
        if canonical != name:
            found.setdefault(canonical, []).append(name)
    return found


def _languages(table: Table, effects: Effects) -> Iterator[str]:
    by_language: dict[str, list[str]] = {}
    for line in OPTIONS.split("\n"):
        for word in line.split() if line.startswith(" ") else ():
            kind = table.find(word.rstrip(",").partition("=")[0])
            if kind and kind.language and "=" not in word:
                by_language.setdefault(kind.language, []).append(kind.name)
    for language, names in by_language.items():
        kind = table.find(names[0])
        assert kind is not None
        advice = effects.of(kind).text.partition("Python only: ")[2]
        yield f"| {language} | {', '.join(f'`{name}`' for name in names)} | **refused:** {advice} |\n"
