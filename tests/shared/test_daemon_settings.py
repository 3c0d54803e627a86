import contextlib
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.daemon import Document, Secret, parse_document, read_document, typed
from palatine.daemon.settings import operators
from palatine.errors import ConfigError


@attrs.frozen
class Target:
    url: str
    every: float = 1.0


@attrs.frozen
class Settings:
    name: str
    max_size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    ratio: float = 0.5
    loud: bool = False
    mode: Literal["calm", "wild"] = "calm"
    where: Path | None = None
    password: Secret | None = None
    words: tuple[str, ...] = ()
    targets: list[Target] = attrs.field(factory=list)
    limits: dict[str, int] = attrs.field(factory=dict)
    anything: Any = None
    either: int | Literal["auto"] = "auto"


GOOD = """\
name: one
max-size: 3
ratio: 2
loud: yes
mode: wild
where: /srv
password: s3cret
words: [a, 1]
targets:
  - url: http://x
    every: 2.5
  - {url: http://y}
limits: {a: 1}
anything: [1, {b: 2}]
either: 7
"""


def test_a_good_file_becomes_typed_settings() -> None:
    assert typed(parse_document(GOOD), Settings) == Settings(
        "one",
        3,
        2.0,
        loud=True,
        mode="wild",
        where=Path("/srv"),
        password=Secret("s3cret"),
        words=("a", "1"),
        targets=[Target("http://x", 2.5), Target("http://y")],
        limits={"a": 1},
        anything=[1, {"b": 2}],
        either=7,
    )


BAD = [
    ("nmae: x", "1:1: unknown key 'nmae'; did you mean 'name'?"),
    ("name: x\nzzz: 1", "2:1: unknown key 'zzz'"),
    ("max-size: 3", "1:1: 'name' is missing"),
    ("name: [x]", "1:7: 'name' must be text, not a list"),
    ("name:", "1:6: 'name' must be text, not empty"),
    ("name: x\nmax-size: '3'", "2:11: 'max-size' must be a whole number, not '3'"),
    ("name: x\nmax-size: true", "2:11: 'max-size' must be a whole number, not True"),
    ("name: x\nmax-size: 0", "2:11: 'max_size' must be >= 1: 0"),
    ("name: x\nloud: 1", "2:7: 'loud' must be true or false, not 1"),
    ("name: x\nmode: clam", "2:7: 'mode' must be one of calm, wild, not 'clam'; did you mean 'calm'?"),
    ("name: x\ntargets: {}", "2:10: 'targets' must be a list, not a mapping"),
    ("name: x\ntargets: [{}]", "2:11: 'url' is missing in 'targets.0'"),
    ("name: x\ntargets:\n- url: a\n  evry: 1", "4:3: unknown key 'evry'; did you mean 'every'?"),
    ("name: x\ntargets:\n- url: a\n  every: b", "4:10: 'targets.0.every' must be a number, not 'b'"),
    ("name: x\nlimits: {a: b}", "2:13: 'limits.a' must be a whole number, not 'b'"),
    ("name: x\npassword: {file: /no/such}", "2:18: /no/such cannot be read: No such file or directory"),
    ("name: x\npassword: {env: PALATINE_NO_SUCH}", "2:17: $PALATINE_NO_SUCH is not set"),
    ("name: x\npassword: 3", "2:11: 'password' must be text, {file: PATH} or {env: NAME}"),
    ("name: x\neither: no way", "2:9: 'either' must be a whole number, not 'no way'"),
    ("name: x\nname: y", "2:1: 'name' is given twice, first in line 1"),
    ("name: x\n1: y", "2:1: a key must be text, not '1'; quote it"),
    ("- name", "1:1: must be a mapping of keys to values"),
    ("name: [x\nb: 1", "2:2: did not find expected ',' or ']'"),
    ("name: &a [*a]", "1:7: an alias may not contain itself"),
    ("name: x\n---\nname: y", "2:1: but found another document"),
    ("name: \x07", "is not YAML"),
    ("name: 2024-13-45", "is not YAML: month must be in 1..12"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_file_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(parse_document(text, "f"), Settings)
    assert str(caught.value).startswith(f"f: {message}" if "is not YAML" in message else f"f:{message}")
    assert caught.value.exit_status == 78


def test_secrets_come_from_files_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pw").write_text("from file\n")
    monkeypatch.setenv("PALATINE_TEST_PW", "from env")
    for source, value in ((f"{{file: {tmp_path}/pw}}", "from file"), ("{env: PALATINE_TEST_PW}", "from env")):
        settings = typed(parse_document(f"name: x\npassword: {source}"), Settings)
        assert settings.password
        assert settings.password.value == value
        assert "from" not in f"{settings} {settings.password} {settings.password!r}"


def test_keys_of_others_are_skipped() -> None:
    document = parse_document("name: x\noperators: [root]\nlog-level: info")
    assert typed(document, Settings, also=("operators", "log_level")) == Settings("x")


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert parse_document("# nothing\n") == Document({})


@pytest.mark.parametrize(("data", "message"), [(None, "cannot be read"), (b"a: \xff", "is not UTF-8: byte 3 is 0xff")])
def test_a_file_that_cannot_be_read(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "x.yaml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        read_document(path)


YAMLISH = st.text(alphabet="ab:-[]{}#&*!|>'\"\n ,?%@0.1~<\t\u00e9\x00", max_size=60)


@given(YAMLISH)
def test_any_text_is_a_document_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert typed(parse_document(text, "f"), Settings).max_size >= 1


def test_operators_are_names_or_numbers() -> None:
    assert operators(parse_document("operators: [root, 1234]")) == {0, 1234}
    assert operators(Document({})) == frozenset()
    with pytest.raises(ConfigError, match="f:2:3: there is no user 'nobody-at-all'"):
        operators(parse_document("operators:\n- nobody-at-all", "f"))
    with pytest.raises(ConfigError, match="must be a list"):
        operators(parse_document("operators: root"))
