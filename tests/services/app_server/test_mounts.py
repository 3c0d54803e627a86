"""Which app a request belongs to, and what is done to headers."""

import pytest

from palatine.errors import ConfigError
from palatine_app_server.serving.header_edits import HeaderEdits, parse_header
from palatine_app_server.serving.mounts import NOBODY, Choice, Mounts

POINTS = ("", "/a", "/a/b", "/c/")


@pytest.mark.parametrize(
    ("path", "choice"),
    [
        ("/", Choice(0, "", "/")),
        ("", Choice(0, "", "")),
        ("/x", Choice(0, "", "/x")),
        ("/a", Choice(1, "/a", "")),
        ("/a/", Choice(1, "/a", "/")),
        ("/a/x", Choice(1, "/a", "/x")),
        ("/ab", Choice(0, "", "/ab")),
        ("/a/b/c", Choice(2, "/a/b", "/c")),
        ("/a/bc", Choice(1, "/a", "/bc")),
        ("/c", Choice(3, "/c", "")),
        ("/c/d", Choice(3, "/c", "/d")),
    ],
)
def test_managed_script_names(path: str, choice: Choice) -> None:
    assert Mounts(POINTS, manage=True).choose("", path) == choice


def test_script_names_a_front_end_sets() -> None:
    mounts = Mounts(POINTS)
    assert mounts.choose("/a", "/x") == Choice(1, "/a", "/x")
    assert mounts.choose("", "/a/x") == Choice(0, "", "/a/x")
    assert mounts.choose("/unknown", "/x") == Choice(0, "/unknown", "/x")
    assert Mounts(POINTS, ignore=True).choose("/a", "/x") == Choice(0, "/a", "/x")


def test_who_gets_what_is_nobodys() -> None:
    assert Mounts(POINTS, no_default=True).choose("/u", "/x").app == NOBODY
    assert Mounts(POINTS, no_default=True).choose("", "/x").app == 0  # the mount point itself
    assert Mounts(("/a", "/"), manage=True).choose("", "/x").app == 1
    assert Mounts(("/a", ""), manage=True).choose("", "/x").app == 1
    assert Mounts(("/a", "/b"), manage=True).choose("", "/x") == Choice(0, "", "/x")  # the first of all
    assert Mounts(("/a", "/b"), manage=True, no_default=True).choose("", "/x").app == NOBODY
    assert Mounts(()).choose("", "/").app == NOBODY


def test_headers_added_and_removed() -> None:
    edits = HeaderEdits((parse_header("X-A: 1"), parse_header("X-B:2: 3")), frozenset({"server", "x-a"}))
    assert edits.apply([("Server", "s"), ("Content-Type", "t")]) == [("Content-Type", "t"), ("X-B", "2: 3")]
    more = edits.more([("X-C", "4")], {"x-b"})
    assert more.apply([]) == [("X-C", "4")]
    assert not HeaderEdits()


@pytest.mark.parametrize("text", ["", "no colon", ": v", "a b: c", "a: b\r\nc: d", "ä: b"])
def test_what_is_no_header(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a header"):
        parse_header(text)
