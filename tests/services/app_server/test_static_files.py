"""Which file a request gets, what is said about it, and that nobody gets out of the directories."""

import gzip
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palatine_app_server.config.static_settings import Expiry, StaticSettings
from palatine_app_server.serving import http_ranges, mime_types
from palatine_app_server.serving.http_ranges import Slice
from palatine_app_server.serving.static_files import Answer, StaticFiles

NOW = 1_800_000_000.0
MTIME = 1_700_000_000
LAST_MODIFIED = ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """/www is served, /www-secret and /outside are not, /safe is by static-safe."""
    www = tmp_path / "www"
    for name in ("www/sub", "www-secret", "outside", "safe"):
        (tmp_path / name).mkdir(parents=True)
    files = {
        "www/a.txt": b"0123456789", "www/index.html": b"<html>", "www/sub/app.py": b"secret",
        "www/gr\xc3\xbc\xc3\x9fe": b"x",
        "www-secret/key": b"k", "outside/key": b"k", "safe/ok.css": b"c", "www/none": b"", "www/gone.gz": b"",
    }  # fmt: skip
    for name, data in files.items():
        path = tmp_path / os.fsdecode(name.encode("latin-1") if "\xc3" in name else name.encode())
        path.write_bytes(data)
        os.utime(path, (MTIME, MTIME))
    (www / "out").symlink_to(tmp_path / "outside")
    (www / "key").symlink_to(tmp_path / "outside" / "key")
    (www / "ok").symlink_to(tmp_path / "safe" / "ok.css")
    (www / "inside").symlink_to("a.txt")
    os.mkfifo(www / "fifo")
    return tmp_path


def ask(
    root: Path, path: str, method: str = "GET", complaints: list[str] | None = None, **options: Any
) -> Answer | None:
    headers = {name: value for name, value in options.items() if name.startswith("HTTP_") or name == "DOCUMENT_ROOT"}
    chosen = {name: value for name, value in options.items() if name not in headers}
    chosen.setdefault("maps", (("/s", str(root / "www"), False),))
    types = root / "mime.types"
    types.write_text("# types\ntext/plain txt text\ntext/css css # and more\ntext/html html\n")
    lines: list[str] = [] if complaints is None else complaints
    files = StaticFiles(StaticSettings(mime_files=(str(types),), **chosen), lines.append)
    return files.answer({"REQUEST_METHOD": method, "PATH_INFO": path, "REQUEST_URI": path, **headers}, NOW)


def headers_of(answer: Answer | None) -> dict[str, str]:
    assert answer is not None
    return dict(answer.headers)


def test_a_file(root: Path) -> None:
    answer = ask(root, "/s/a.txt")
    assert answer == Answer(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", "10"), LAST_MODIFIED],
        str(root / "www" / "a.txt"), 0, 10,
    )  # fmt: skip
    assert ask(root, "/s/a.txt", "HEAD") == answer


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/s/sub/../a.txt", "a.txt"),
        ("/s//./a.txt", "a.txt"),
        ("/s/inside", "a.txt"),
        ("/s/none", "none"),
        ("/s/gr\xc3\xbc\xc3\x9fe", "grüße"),
        ("/sa.txt", "a.txt"),  # a prefix is a prefix, as in uWSGI
    ],
)
def test_what_a_path_means(root: Path, path: str, name: str) -> None:
    answer = ask(root, path)
    assert answer is not None
    assert answer.path == str(root / "www" / name)


@pytest.mark.parametrize(
    "path",
    [
        "/s/../outside/key", "/s/../www-secret/key", "/s-secret/key", "/s/out/key", "/s/key", "/s/ok",
        "/s/sub/../../outside/key", "/s/../../../../../../../../etc/passwd", "/s//etc/passwd", "/s/..", "/s/a.txt/",
        "/s/a.txt/../../outside/key", "/s/fifo", "/s/sub", "/s", "/s/", "/s/missing", "/other", "/s/a.txt\0.png",
        "/s/%2e%2e/outside/key", "/s/..\\outside\\key", "/s/.../a.txt", "/s/" + "a" * 5000, "/s/" + "../" * 2000,
    ],
)  # fmt: skip
def test_nobody_gets_what_is_not_served(root: Path, path: str) -> None:
    assert ask(root, path) is None


def test_who_tries_is_named_in_the_log(root: Path) -> None:
    complaints: list[str] = []
    ask(root, "/s/../outside/key", complaints=complaints)
    wanted = rf"\[uwsgi-fileserve\] security error: {root}/outside/key is not under {root}/www or a safe path"
    assert [bool(re.fullmatch(wanted, line)) for line in complaints] == [True]


def test_safe_directories_and_other_methods(root: Path) -> None:
    safe = ask(root, "/s/ok", safe=(str(root / "safe"),))
    assert safe is not None
    assert safe.path == str(root / "safe" / "ok.css")
    assert ask(root, "/s/a.txt", "POST") is None


def test_where_files_are_looked_for(root: Path) -> None:
    www = str(root / "www")
    for options in (
        {"maps": (("/sub", www, True),)},
        {"maps": (), "check": (www,)},
        {"maps": (), "docroot": True, "DOCUMENT_ROOT": www},
        {"maps": (("/sub/app.py", f"{www}/sub/app.py", False),)},
        {"maps": (("/sub", f"{www}/nowhere", False), ("/sub", f"{www}/sub", False))},
    ):
        answer = ask(root, "/sub/app.py", **options)
        assert answer is not None, options
        assert answer.path == f"{www}/sub/app.py"
    assert ask(root, "/sub/app.py", maps=(), DOCUMENT_ROOT=www) is None
    assert ask(root, "/s/sub/app.py", skip_endings=(".py",)) is None
    assert ask(root, "/s/", indexes=("index.txt", "index.html")) is not None
    assert headers_of(ask(root, "/s", indexes=("index.html",)))["Content-Type"] == "text/html"
    assert ask(root, "/s/sub", indexes=("app.py",), skip_endings=(".py",)) is None


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes=0-0", Slice(0, 1)),
        ("bytes=2-", Slice(2, 8)),
        ("bytes=2-99", Slice(2, 8)),
        ("bytes=-3", Slice(7, 3)),
        ("bytes=-99", Slice(0, 10)),
        ("bytes=10-", Slice(0, -1)),
        ("bytes=-0", Slice(0, -1)),
        *[(value, None) for value in ("", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=x-1")],
    ],
)
def test_ranges(value: str, part: Slice | None) -> None:
    assert http_ranges.parse_range(value, 10) == part


def test_ranges_of_a_file(root: Path) -> None:
    partial = ask(root, "/s/a.txt", HTTP_RANGE="bytes=2-4")
    assert partial is not None
    assert (partial.status, partial.start, partial.length) == ("206 Partial Content", 2, 3)
    assert headers_of(partial)["Content-Range"] == "bytes 2-4/10"
    assert headers_of(partial)["Content-Length"] == "3"
    outside = ask(root, "/s/a.txt", HTTP_RANGE="bytes=10-")
    assert outside is not None
    assert outside.status == "416 Requested Range Not Satisfiable"
    assert headers_of(outside)["Content-Range"] == "bytes */10"
    assert not outside.path
    for date, status in (
        ("Tue, 14 Nov 2023 22:13:20 GMT", "206"),
        ("Tue, 14 Nov 2023 22:13:19 GMT", "200"),
        ('"tag"', "200"),
    ):
        answer = ask(root, "/s/a.txt", HTTP_RANGE="bytes=2-4", HTTP_IF_RANGE=date)
        assert answer is not None
        assert answer.status.startswith(status)


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", "304 Not Modified"),
        ("Wed, 15 Nov 2023 00:00:00 GMT", "304 Not Modified"),
        ("Tue, 14 Nov 2023 22:13:19 GMT", "200 OK"),
        ("nonsense", "200 OK"),
        ("Tue, 14 Nox 2023 22:13:20 GMT", "200 OK"),
    ],
)
def test_what_the_client_has(root: Path, date: str, status: str) -> None:
    answer = ask(root, "/s/a.txt", HTTP_IF_MODIFIED_SINCE=date)
    assert answer is not None
    assert answer.status == status


def test_dates_there_and_back() -> None:
    for moment in (0, MTIME, 4_000_000_000):
        assert http_ranges.parse_date(http_ranges.format_date(moment)) == moment
    assert http_ranges.format_date(10**18).endswith(" 9999 23:59:59 GMT")  # a route's `expires` of what a client sent


@pytest.mark.parametrize(
    ("subject", "pattern", "from_mtime", "expires"),
    [
        ("file", r"\.txt$", False, NOW + 60),
        ("file", r"\.txt$", True, MTIME + 60),
        ("path", "^/s/a", False, NOW + 60),
        ("uri", "^/s/a", True, MTIME + 60),
        ("type", "text/plain", False, NOW + 60),
        ("type", "text", False, None),
        ("file", r"\.css$", False, None),
    ],
)
def test_expiry(root: Path, subject: str, pattern: str, from_mtime: object, expires: float | None) -> None:
    expiry = Expiry(subject, re.compile(pattern), 60, bool(from_mtime))
    wanted = None if expires is None else http_ranges.format_date(int(expires))
    assert headers_of(ask(root, "/s/a.txt", expiries=(expiry,))).get("Expires") == wanted


def test_smaller_twins(root: Path) -> None:
    www = root / "www"
    (www / "a.txt.gz").write_bytes(gzip.compress(b"0123456789"))
    (www / "a.txt.br").write_bytes(b"brotli")
    ways: list[dict[str, Any]] = [
        {"packed_all": True}, {"packed_prefixes": (str(www),)}, {"packed_suffixes": (".txt",)},
        {"packed_patterns": (re.compile("a[.]t"),)},
    ]  # fmt: skip
    for way in ways:
        for accepted, ending in (("gzip, br", "br"), ("gzip;q=0.5", "gz"), ("deflate", ""), ("gzip;q=0", "")):
            answer = ask(root, "/s/a.txt", HTTP_ACCEPT_ENCODING=accepted, **way)
            assert answer is not None
            assert answer.path == str(www / f"a.txt.{ending}").rstrip(".")
            assert headers_of(answer)["Content-Type"] == "text/plain"
            assert headers_of(answer).get("Content-Encoding") == {"br": "br", "gz": "gzip"}.get(ending)
    plain = ask(root, "/s/index.html", HTTP_ACCEPT_ENCODING="gzip", packed_all=True)
    assert plain is not None
    assert plain.path.endswith("html")
    unasked = ask(root, "/s/a.txt", HTTP_ACCEPT_ENCODING="gzip", packed_suffixes=(".css",))
    assert unasked is not None
    assert unasked.path.endswith("a.txt")


def test_a_front_end_that_sends_the_file_itself(root: Path) -> None:
    answer = ask(root, "/s/a.txt", serve_mode="x-sendfile")
    assert answer is not None
    assert not answer.path
    assert headers_of(answer)["X-Sendfile"] == str(root / "www" / "a.txt")


def test_types_without_a_table_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mime_types, "DEFAULT_FILE", "/no/where")
    table = mime_types.read(())
    assert table[mime_types.ending_of("/a/b.css")] == "text/css"
    assert [mime_types.ending_of(name) for name in ("a", "a.", ".b/c", "a.b.c", "a.b-c")] == ["", "", "", "c", ""]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.sampled_from(
            ["..", ".", "", "a.txt", "sub", "out", "key", "ok", "inside", "outside", "www-secret", "%2e", "~"]
        )
        | st.text(st.characters(max_codepoint=255, exclude_characters="\0"), max_size=5),
        max_size=8,
    )
)
def test_whatever_is_asked_for_lies_below(root: Path, parts: list[str]) -> None:
    files = StaticFiles(StaticSettings(maps=(("/s", str(root / "www"), False),)), lambda _line: None)
    path = "/s/" + "/".join(parts)
    answer = files.answer({"REQUEST_METHOD": "GET", "PATH_INFO": path, "REQUEST_URI": "/"}, NOW)
    if answer is not None:
        assert Path(answer.path).resolve().is_relative_to(root / "www")
        assert Path(answer.path).is_file()
