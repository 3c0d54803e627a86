"""Invariant: whatever words, variables and files say, `inspect` returns a Config or raises ConfigError, and soon."""

from collections.abc import Mapping
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.config_math import evaluate, expand
from palatine.codec.config_source import Piece, Source, expand_magic
from palatine.config import inspect
from palatine.config.files import Parser
from palatine.config.magic import Host
from palatine.config.show import resolved, show
from palatine.config.yaml_child import parse_yaml_here
from palatine.errors import ConfigError

HOST = Host("/nowhere", dict.fromkeys("hktTuUgG", "x"))
DIRECTIVES = """
a b socket master processes harakiri ini yaml xml json include inherit set set-ph for for-times for-readline
if-env if-opt if-not-opt if-hostname-match if-exists endif end blacklist end-blacklist whitelist strict plugins
declare-option declare-option2 inject-before exit config log-alarm rack early-envdir fallback-config
"""
NAMES = st.sampled_from(DIRECTIVES.split())
FRAGMENTS = st.sampled_from(
    [
        *[
            "f.ini",
            "f.ini:b",
            ":b",
            "f.yaml",
            "f.xml",
            "f.json",
            "%(a)",
            "%(a + b)",
            "$(A)",
            "@(f.ini)",
            "%d",
            "%",
            "a=b",
        ],
        *["a=$1;b=$2", "1", "-1", "99999999999", "(", ")", " ", "x,y", "\u00e9", "\udc80", "\ud800", "\0", "rack", "["],
    ]
)
VALUES = st.lists(FRAGMENTS, max_size=4).map("".join)
LINES = st.tuples(NAMES, VALUES).map(" = ".join)
INI = st.lists(st.one_of(LINES, st.sampled_from(["[uwsgi]", "[b]", "; c", "flag", ""])), max_size=12).map(
    lambda lines: "[uwsgi]\n" + "\n".join(lines)
)
YAMLISH = st.lists(st.sampled_from([*"uwsgi:-&*[]{}|>'\"#%@!,? \n\t", "uwsgi:\n", "  a: ", "- ", "&a ", "*a"])).map(
    "".join
)
XMLISH = st.lists(
    st.sampled_from(
        ["<uwsgi>", "</uwsgi>", "<a>", "</a>", "<b/>", "x", "&amp;", "&e;", "<![CDATA[", "]]>", "<!--", "-->"]
    )
).map("".join)
JSONISH = st.lists(st.sampled_from([*'{}[]:,"\\ \n', '"uwsgi"', "1", "true", "-", "\\ud800", "//", "/*"])).map("".join)
WORDS = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda pair: f"--{pair[0]}={pair[1]}"),
    st.sampled_from(["-M", "-p", "-Mp4", "--", "-", "--processes", "--snmp", "f.ini", "f.yaml", "f.xml", "f.json"]),
    st.text(max_size=8),
)


def run(argv: list[str], files: Mapping[str, bytes], environ: Mapping[str, str]) -> None:
    def read(name: str) -> bytes:
        if name not in files:
            raise ConfigError(f"cannot read {name!a}")
        return files[name]

    readers = dict.fromkeys(["", "-", "fd", "exec", "emperor", "http", "https"], read)
    with suppress(ConfigError):
        config = inspect(argv, environ, cwd="/nowhere", readers=readers, host=HOST, yaml=parse_yaml_here)
        show(config)
        resolved(config)
        for name in ("master", "processes", "harakiri", "socket", "reload-on-rss"):
            config.settings.flag(name)
            config.settings.items(name)
            with suppress(ConfigError):
                config.settings.integer(name)
            with suppress(ConfigError):
                config.settings.size(name)


@settings(max_examples=600, deadline=5000)
@given(
    argv=st.lists(WORDS, max_size=6),
    text=INI,
    environ=st.dictionaries(st.sampled_from(["A", "UWSGI_B", "UWSGI_INI", "UWSGI_MASTER"]), VALUES, max_size=3),
)
def test_configurations_of_directives(argv: list[str], text: str, environ: dict[str, str]) -> None:
    data = text.encode("utf-8", "surrogatepass")
    files = {
        "f.ini": data,
        "f.yaml": b"uwsgi: {a: 1, ini: f.ini}",
        "f.xml": b"<uwsgi><a>1</a></uwsgi>",
        "f.json": b'{"uwsgi":{"a":1}}',
    }
    run([*argv, "--ini", "f.ini"], files, environ)


@settings(max_examples=300, deadline=5000)
@given(data=st.binary(max_size=200))
def test_any_bytes_in_any_format(data: bytes) -> None:
    for name in ("f.ini", "f.yaml", "f.xml", "f.json"):
        run([name], {name: data}, {})


def source(text: str) -> Source:
    return expand_magic([Piece("f", text)], lambda _: "m")


def parsers() -> list[Parser]:
    from palatine.codec.config_ini import parse_ini
    from palatine.codec.config_json import parse_json
    from palatine.codec.config_xml import parse_xml

    return [parse_ini, parse_json, parse_xml, parse_yaml_here]


@settings(max_examples=800, deadline=5000)
@given(text=st.one_of(YAMLISH, XMLISH, JSONISH, st.text()), section=st.sampled_from(["", "uwsgi", "b"]))
def test_grammars_return_entries_or_config_errors_inside_the_text(text: str, section: str) -> None:
    expanded = None
    with suppress(ConfigError):
        expanded = source(text)
    for parse in parsers() if expanded else ():
        assert expanded is not None
        lines = text.split("\n")
        for row, column in places(parse, expanded, section):
            assert 1 <= row <= len(lines)
            assert 1 <= column <= len(lines[row - 1]) + 1


def places(parse: Parser, expanded: Source, section: str) -> list[tuple[int, int]]:
    """Where the entries stand, or the error that came instead."""
    try:
        return [(entry.origin.line, entry.origin.column) for entry in parse(expanded, section) or []]
    except ConfigError as error:
        return [(error.line, error.column)]


@settings(max_examples=500)
@given(
    value=st.lists(st.sampled_from([*"$%@()ab +-*/", "$(a)", "%(a b)"])).map("".join),
    known=st.dictionaries(
        st.sampled_from(["a", "b", "a b", ""]), st.sampled_from(["", "1", "$(b)", "x$(a)", "-", "%(b"])
    ),
)
def test_references_end(value: str, known: dict[str, str]) -> None:
    for symbol in "$%@":
        with suppress(ConfigError):
            for _ in expand(value, symbol, known.get):
                pass
    evaluate(value, known.get)
