"""One table of examples for each grammar, then what Hypothesis finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.config_ini import parse_ini, write_ini
from palatine.codec.config_json import parse_json
from palatine.codec.config_source import Entry, Origin, Piece, Source, expand_magic
from palatine.codec.config_xml import parse_xml
from palatine.codec.config_yaml import parse_yaml
from palatine.config.files import Parser
from palatine.errors import ConfigError


def source(text: str, path: str = "f") -> Source:
    return expand_magic([Piece(path, text)], None)


def pairs(entries: list[Entry] | None) -> list[tuple[str, str | None]] | None:
    return entries if entries is None else [(entry.name, entry.value) for entry in entries]


INI = [
    ("[uwsgi]\na = 1\n", [("a", "1")]),
    ("[uwsgi]\r\na=1\r\nb =2", [("a", "1"), ("b", "2")]),
    ("[uwsgi]\n  a =  b = c  \n", [("a", "b = c")]),
    ("[uwsgi]\n; c\n# c\n\nflag\nempty=\n", [("flag", ""), ("empty", "")]),
    ('[uwsgi]\na = 1 ; no comment\nb = "q"\n', [("a", "1 ; no comment"), ("b", '"q"')]),
    ("x = 0\n[other]\na = 1\n[uwsgi]\na = 2\n[other]\na = 3\n[uwsgi]\na = 4", [("a", "2"), ("a", "4")]),
    ("[uwsgi\na = 1", None),
    ("[uwsgi] ; c\na = 1", None),
    ("[uwsgiX\na = 1", [("a", "1")]),
    ("[uwsgi]\n= v\n", [("", "v")]),
    ("[uwsgi]\n", None),
    ("[", None),
    ("", None),
    ("[uwsgi]\na = \x0c1\n", [("a", "\x0c1")]),
]

JSON = [
    ('{"uwsgi": {"a": "x", "n": -1.50, "t": true, "f": false, "z": null}}',
     [("a", "x"), ("n", "-1.50"), ("t", "1"), ("f", "0"), ("z", "0")]),
    ('{"uwsgi": {"s": [":1", 2, true, {"o": 1}, ["p"]], "o": {"k": 1}, "e": []}}',
     [("s", ":1"), ("s", "2"), ("s", "1")]),
    ('{"uwsgi": {"d": 1, "d": 2}}', [("d", "1"), ("d", "2")]),
    ('{"uwsgi": {"a": 1}, "uwsgi": {"a": 2}}', [("a", "1")]),
    ('/* c */ {"uwsgi": // c\n {"u": "\\u00e9\\ud83d\\ude00\\n\\/"}}', [("u", "\u00e9\U0001f600\n/")]),
    ('{"uwsgi":{}}', []),
]  # fmt: skip

BAD_JSON = [
    ('{"uwsgi": {"a": 01}}', (1, 17)),
    ('{"uwsgi": {"a": "x}', (1, 20)),
    ('{"uwsgi": {"a": "\t"}}', (1, 18)),
    ('{"uwsgi": {"a": "\\ud800"}}', (1, 24)),
    ('{"uwsgi": {"a": "\\u0000"}}', (1, 24)),
    ('{"uwsgi": {"a": "\\x"}}', (1, 20)),
    ('{"uwsgi": {"a": 1,}}', (1, 19)),
    ('{"uwsgi": {"a": 1}}\n x', (2, 2)),
    ('{"uwsgi": [1]}', (1, 1)),
    ("[1]", (1, 1)),
    ("", (1, 1)),
    ('{"uwsgi": {"a": nul}}', (1, 17)),
    ('{"a": ' + "[" * 70, (1, 71)),
]

XML = [
    ("<uwsgi><a>1</a><b/><c></c><d> x &amp; y </d></uwsgi>", "",
     [("a", "1"), ("b", "1"), ("c", "1"), ("d", " x & y ")]),
    ("<r><uwsgi id='x'><a>1</a></uwsgi><uwsgi id='y'><a>2</a></uwsgi></r>", "", [("a", "1")]),
    ("<r><uwsgi id='x'><a>1</a></uwsgi><uwsgi id='y'><a>2</a></uwsgi></r>", "y", [("a", "2")]),
    ("<r><uwsgi id='x'><a>1</a></uwsgi><uwsgi><a id='z'>2</a><a id='q'>3</a></uwsgi></r>", "q", [("a", "3")]),
    ("<uwsgi><![CDATA[code]]><a><![CDATA[x<y]]></a></uwsgi>", "", [("eval", "code"), ("a", "x<y")]),
    ("<uwsgi><app mountpoint='/x'>m</app><app domain='d'>q</app><app>n</app><app/></uwsgi>", "",
     [("mount", "/x=m"), ("app", ""), ("mount", "d|=q"), ("app", ""), ("mount", "n"), ("app", ""), ("app", "")]),
    ("<uwsgi><app mountpoint='/y'>\n<script>s</script></app></uwsgi>", "", [("mount", "/y=s"), ("app", "")]),
]  # fmt: skip

BAD_XML = [
    ("<!DOCTYPE x [<!ENTITY e 'boom'>]><uwsgi><a>&e;</a></uwsgi>", "", (1, 13)),
    ("<uwsgi>\n<a><b>1</b></a></uwsgi>", "", (2, 4)),
    ("<uwsgi><a>&e;</a></uwsgi>", "", (1, 11)),
    ("<uwsgi>\n<\u00e9>1</a></uwsgi>", "", (2, 7)),
    ("<uwsgi>" + "<a/>" * 50_001 + "</uwsgi>", "", (1, 7 + 4 * 49_999 + 1)),
    ("<r><uwsgi id='x'/></r>", "y", (1, 1)),
    ("", "", (1, 1)),
]

YAML = [
    (
        "uwsgi:\n  a: one\n  b: true\n  c: null\n  d: 1.50\n",
        [("a", "one"), ("b", "true"), ("c", "null"), ("d", "1.50")],
    ),
    ("uwsgi:\n  s:\n    - :1\n    - ':2'\n  f: [p, 'q # r']\n", [("s", ":1"), ("s", ":2"), ("f", "p"), ("f", "q # r")]),
    ("uwsgi:\n  a:\n  b: ''\n  c: x # comment\n", [("b", ""), ("c", "x")]),
    ("uwsgi:\n  a: 1\n  a: 2\nuwsgi:\n  a: 3\n", [("a", "1"), ("a", "2")]),
    ("uwsgi:\n  - a: 1\n  - b: 2\n", [("a", "1"), ("b", "2")]),
    ("x: &x\n  q: 1\nuwsgi:\n  <<: *x\n  b: &v 2\n  c: *v\n", [("q", "1"), ("b", "2"), ("c", "2")]),
    ("uwsgi:\n  n:\n    k: v\n", [("k", "v")]),
    ("other:\n  a: 1\n", None),
    ("", None),
    ("- 1\n", None),
]

BAD_YAML = [
    ("uwsgi:\n\ta: 1\n", (2, 1)),
    ("uwsgi:\n  a: %(x)\n", (2, 6)),
    ("uwsgi: &a\n  b: *a\n", (1, 8)),
    ("uwsgi:\n  a: &a [*a]\n", (2, 6)),
    ("uwsgi:\n  ? [x]\n  : 1\n", (2, 5)),
    ("uwsgi: {a: 1\n", (2, 1)),
    ("\x01", (1, 1)),
    ("[" * 5000, (1, 1)),
    ("---\nuwsgi: {a: 1}\n---\nb: 1\n", (3, 1)),
]


@pytest.mark.parametrize(("text", "expected"), INI)
def test_ini(text: str, expected: list[tuple[str, str]] | None) -> None:
    assert pairs(parse_ini(source(text), "")) == expected


@pytest.mark.parametrize(("text", "expected"), JSON)
def test_json(text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(parse_json(source(text), "")) == expected


@pytest.mark.parametrize(("text", "section", "expected"), XML)
def test_xml(text: str, section: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(parse_xml(source(text), section)) == expected


@pytest.mark.parametrize(("text", "expected"), YAML)
def test_yaml(text: str, expected: list[tuple[str, str]] | None) -> None:
    assert pairs(parse_yaml(source(text), "")) == expected


@pytest.mark.parametrize(("text", "place"), BAD_JSON)
def test_json_errors_name_the_place(text: str, place: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_json(source(text), "")
    assert (caught.value.path, caught.value.line, caught.value.column) == ("f", *place), caught.value


@pytest.mark.parametrize(("text", "section", "place"), BAD_XML)
def test_xml_errors_name_the_place(text: str, section: str, place: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_xml(source(text), section)
    assert (caught.value.path, caught.value.line, caught.value.column) == ("f", *place), caught.value


@pytest.mark.parametrize(("text", "place"), BAD_YAML)
def test_yaml_errors_name_the_place(text: str, place: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(source(text), "")
    assert (caught.value.path, caught.value.line, caught.value.column) == ("f", *place), caught.value


def test_a_yaml_of_aliases_of_aliases_is_stopped_early() -> None:
    levels = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(ConfigError, match="more than 20000 options"):
        parse_yaml(source("x: &l0 [a, b]\nuwsgi:\n" + levels), "")


PLACES = [
    (parse_ini, "[uwsgi]\n  a = 1\nb = 2\n", [(2, 3), (3, 1)]),
    (parse_json, '{"uwsgi": {"a": 1,\n "s": [2, 3]}}', [(1, 12), (2, 8), (2, 11)]),
    (parse_xml, "<uwsgi>\n <\u00e9>1</\u00e9><b/></uwsgi>", [(2, 2), (2, 10)]),
    (parse_yaml, "uwsgi:\n  a: 1\n  s:\n    - 2\n", [(2, 3), (4, 7)]),
]


@pytest.mark.parametrize(("parse", "text", "places"), PLACES)
def test_every_entry_knows_line_and_column(parse: Parser, text: str, places: list[tuple[int, int]]) -> None:
    assert [entry.origin[1:] for entry in parse(source(text), "") or ()] == places


def test_places_survive_magic_variables_and_joined_files() -> None:
    expanded = expand_magic(
        [Piece("pre", "[uwsgi]\na = 1\n"), Piece("main", "x = %d%d\n%zy = 2\nz = 3")],
        lambda letter: "long" if letter == "d" else "",
    )
    assert expanded.text == "[uwsgi]\na = 1\nx = longlong\ny = 2\nz = 3"
    entries = parse_ini(expanded, "uwsgi")
    assert entries is not None
    assert [(entry.name, entry.origin) for entry in entries] == [
        ("a", Origin("pre", 2, 1)),
        ("x", Origin("main", 1, 1)),
        ("y", Origin("main", 2, 3)),
        ("z", Origin("main", 3, 1)),
    ]


MAGIC = [
    ("%n", "N"),
    ("%%n", "%n"),
    ("%(a) %(", "%(a) %("),
    ("%q%\n.", "."),
    ("%", ""),
    ("%%%", "%"),
    ("%\u00e9x", "x"),
    ("a%%%nb", "a%Nb"),
]


@pytest.mark.parametrize(("text", "expected"), MAGIC)
def test_magic_variables(text: str, expected: str) -> None:
    assert expand_magic([Piece("f", text)], lambda letter: "N" if letter == "n" else "").text == expected


def test_magic_variables_cannot_blow_a_file_up() -> None:
    with pytest.raises(ConfigError, match="longer than"):
        expand_magic([Piece("f", "%p" * 1000)], lambda _: "x" * 4000)


plain = st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])
keys = st.text(plain, min_size=1).map(lambda text: text.replace("=", "").strip(" \t\r").lstrip("[;#")).filter(
    lambda text: text and text == text.strip(" \t\r") and text[0] not in "[;#"
)  # fmt: skip
values = st.text(plain).map(lambda text: text.strip(" \t\r"))


@given(entries=st.lists(st.tuples(keys, values), min_size=1))
def test_ini_round_trip(entries: list[tuple[str, str]]) -> None:
    text = write_ini(entries)
    assert pairs(parse_ini(expand_magic([Piece("f", text)], lambda _: ""), "uwsgi")) == entries


@given(text=st.text(st.characters(exclude_categories=["Cs"])), names=st.lists(st.text(max_size=3), max_size=3))
def test_any_place_is_inside_its_piece(text: str, names: list[str]) -> None:
    pieces = [Piece(str(number), name + text) for number, name in enumerate(names)]
    expanded = expand_magic(pieces, lambda _: "value")
    for offset in range(len(expanded.text) + 2):
        origin = expanded.place(offset) if pieces else Origin("0", 1, 1)
        if pieces:
            lines = pieces[int(origin.path)].text.split("\n")
            assert 1 <= origin.line <= len(lines)
            assert 1 <= origin.column <= len(lines[origin.line - 1]) + 1
