"""One verdict for every option, true to what the programs read, and the page made from it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from palatine.config.effects import IMPLEMENTED, NO_EFFECT, NOT_YET, REFUSED, VERDICTS, Effects
from palatine.config.reference import counts, page
from palatine.config.table import OWN, Table
from palatine_app_server.routing import route_grammar
from palatine_app_server.starting.hooks import CALL_MOMENTS, EXEC_MOMENTS, MOMENTS, MOUNT_MOMENTS
from palatine_emperor.settings import Settings

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "shared/palatine/config/effects.txt"
#: Nothing in here reads a setting by these names, or acts on them; they only stand there.
TABLES = {"options.py", "plugins.py", "table.py"}
#: Acted on without being named: the command's own --help, and what the table says it implies.
ELSEWHERE = {"help", "vhost-host"}
#: Words of the settings' readers that are no options: keys, verbs, orders.
WORDS = {"http", "snmp", "signal", "exec", "mount", "umount", "legion"}


def lines() -> list[list[str]]:
    return [line.split("\t") for line in TABLE.read_text().split("\n") if line and line[0] not in "#="]


def test_every_option_has_one_verdict() -> None:
    table, effects = Table(), Effects()
    found = counts()
    print(", ".join(f"{verdict}: {number}" for verdict, number in found.items()))
    assert sum(found.values()) == 1254  # uWSGI's 1,256 rows hold two names twice
    names = [name for name, _, _ in lines()]
    assert len(names) == len(set(names))
    canonical = {kind.name for kind in map(table.find, table.names()) if kind and not kind.language}
    assert set(names) == canonical
    for name in table.names():
        kind = table.find(name)
        assert kind is not None
        verdict, text = effects.of(kind)
        assert verdict in VERDICTS.values()
        assert len(text) > 3, name


def test_refusals_name_something_else_to_use() -> None:
    for _, groups in Effects().sections():
        for names, effect in groups:
            if effect.verdict == REFUSED:
                assert re.search(r"\b(use|run|name|mount)\b", effect.text), names


def texts(path: Path) -> Iterator[str]:
    """Every word of every literal text of a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.split()


def readers() -> Iterator[Path]:
    yield from (ROOT / "services/palatine_app_server").rglob("*.py")
    yield from (ROOT / "services/palatine_emperor").rglob("*.py")
    yield from (path for path in (ROOT / "shared/palatine/config").glob("*.py") if path.name not in TABLES)


def families() -> set[str]:
    """Names the readers put together: f"hook-{moment}"."""
    return {
        *(f"hook-{moment}" for moment in MOMENTS),
        *(f"exec-{moment}" for moment in EXEC_MOMENTS),
        *(f"{verb}-{moment}" for verb in ("mount", "umount") for moment in MOUNT_MOMENTS),
        *(f"call-{moment}" for moment in CALL_MOMENTS),
        *(f"{rights}-binary-patch{arg}" for rights in ("privileged", "unprivileged") for arg in ("", "-arg")),
        *route_grammar.OPTIONS,
        *(f"end-{which}" for which in ("blacklist", "whitelist")),
        *(field.name.replace("_", "-") for field in attrs.fields(Settings)),
        *(f"touch-{order}" for order in ("reload", "workers-reload", "chain-reload", "exec", "signal")),
        *(f"fs-{order}" for order in ("reload", "brutal-reload", "signal")),
        *(f"static-expires{what}-mtime" for what in ("", "-uri", "-path-info", "-type")),
    }


def test_what_is_implemented_is_read_somewhere() -> None:
    table, effects = Table(), Effects()
    read = families() | ELSEWHERE | {text for path in readers() for text in texts(path)}
    spellings: dict[str, set[str]] = {}
    for name in table.names():
        spellings.setdefault(table.canonical(name), set()).add(name)
    assert [name for name in effects.names(IMPLEMENTED) if not read & spellings[name]] == []


def test_what_the_settings_read_is_implemented() -> None:
    table, effects = Table(), Effects()
    services = ROOT / "services/palatine_app_server"
    wrong = set()
    for path in [*services.glob("*settings.py"), services / "serve.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            kind = table.find(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
            if kind and kind.name not in WORDS and effects.of(kind).verdict not in {IMPLEMENTED, NO_EFFECT}:
                wrong.add(f"{path.name}: {kind.name}")
    assert wrong == set()


def test_the_page_is_what_the_table_says() -> None:
    assert (ROOT / "docs/options.md").read_text() == page(), "palatine config options > docs/options.md"


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: str(kind.name))
def test_palatines_own_options_work(kind: object) -> None:
    effect = Effects().of(kind)  # type: ignore[arg-type]  # OWN holds kinds
    assert effect.verdict == IMPLEMENTED


def test_nothing_is_left_to_do() -> None:
    assert counts()[NOT_YET] == 0
