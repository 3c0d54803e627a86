"""`palatine top`: what it shows and what keys do, as values and on a real terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.cli import main
from palatine.cli.found import Found
from palatine.cli.text import Paint
from palatine.cli.top_facts import Worker
from palatine.cli.top_screen import (
    APPS,
    WORKERS,
    App,
    View,
    apps_screen,
    keys_of,
    ordered_apps,
    press,
    seconds,
    size,
    workers_screen,
)
from palatine.counters import Segment
from running import wait_until
from stats_planting import plant, sample, store
from terminal import Terminal

PLAIN = Paint(on=False)
NOW = 1_700_000_000.0


def app(name: str, rate: float | None = None, state: str = "ready", **figures: int) -> App:
    return App(Found("instance", name, Path("/x") / name, state, pid=7, started=int(NOW) - 3700, figures=figures), rate)


APPLICATIONS = [app("b", 5.0, requests=10, busy=1, cores=4), app("a", 900.0, requests=99), app("c", None, "dead")]


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[list[Segment]]:
    """Two living instances, `shop` and `blog`."""
    made = []
    for name in ("shop", "blog"):
        (tmp_path / "i" / name).mkdir(parents=True)
        segment = plant(tmp_path / "i" / name / "seg", sample("stats_hello_under_load.json"))
        store(segment, "server", state=1, pid=os.getpid(), started=int(NOW))
        segment.publish()
        made.append(segment)
    yield made
    for segment in made:
        segment.close(unlink=True)


def shown(view: View) -> list[str]:
    return [one.thing.name for one in ordered_apps(view, APPLICATIONS)]


def test_keys_sort_and_the_same_key_again_sorts_backwards() -> None:
    view = View()
    assert shown(view) == ["a", "b", "c"]
    view = press(view, "r", shown(view))
    assert shown(view) == ["a", "b", "c"]
    view = press(view, "r", shown(view))
    assert shown(view) == ["c", "b", "a"]
    view = press(view, "b", shown(view))
    assert shown(view) == ["b", "a", "c"]
    assert press(view, "Z", shown(view)) == view


def test_an_app_is_chosen_opened_and_left() -> None:
    view = press(press(View(), "down", ["a", "b"]), "down", ["a", "b"])
    assert view.chosen == "b"
    assert press(view, "down", ["a", "b"]).chosen == "b"
    assert press(view, "up", ["a", "b"]).chosen == "a"
    view = press(view, "\n", ["a", "b"])
    assert view.opened == "b"
    assert press(view, "h", []).workers_by == "h"
    assert press(view, "\x1b", []).opened == ""
    assert press(View(), "\n", ["a"]).opened == ""
    assert press(view, "q", []).ended


def test_the_screen_fits_and_shows_the_chosen_one() -> None:
    many = [app(f"app-{number:03}") for number in range(100)]
    lines = apps_screen(View(chosen="app-077"), many, NOW, PLAIN, (60, 20))
    assert len(lines) == 20
    assert max(map(len, lines)) <= 60
    assert any("app-077" in line for line in lines)
    assert "100 apps" in lines[0]
    assert lines[2].startswith("APP*")


def test_workers_are_shown_with_what_they_serve() -> None:
    workers = [
        Worker(1, 4711, "busy", 1200, 0.25, 3, 1, 2, 5 << 20, 9 << 30, int(NOW) - 61, "GET /slow", 12.5),
        Worker(2, 4712, "idle", 7, 0.0005, 0, 0, 0, 0, 0, 0, "", None),
    ]
    lines = workers_screen(View(opened="a"), APPLICATIONS[1], workers, NOW, PLAIN, (200, 30))
    assert lines[3].split() == ["1", "4711", "busy", "12", "1,200", "250ms", "3", "1", "2", "5.0M", "9.0G", "1", "min", "1", "s", "GET", "/slow"]  # fmt: skip  # noqa: E501
    assert lines[4].split()[:6] == ["2", "4712", "idle", "-", "7", "500us"]


@given(name=st.text(max_size=20), uri=st.text(max_size=40), width=st.integers(1, 120), height=st.integers(1, 30))
def test_a_terminal_gets_nothing_it_would_obey(name: str, uri: str, width: int, height: int) -> None:
    worker = Worker(1, 1, "busy", 1, 1.0, 0, 0, 0, 0, 0, 0, uri)
    lines = [
        *apps_screen(View(chosen=name), [app(name)], NOW, PLAIN, (width, height)),
        *workers_screen(View(opened=name), app(name), [worker], NOW, PLAIN, (width, height)),
    ]
    assert all(line.isprintable() and len(line) <= width for line in lines)


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("\x1b[B\n", ["down", "\n"]),
        ("\x1bOAq", ["up", "q"]),
        ("\x1b", ["\x1b"]),
        ("\x1b[3~\x7f", ["backspace"]),
        ("", []),
    ],
)
def test_what_is_typed_is_told_apart(typed: str, keys: list[str]) -> None:
    assert keys_of(typed) == keys


def test_every_key_is_one_columns() -> None:
    for columns in (APPS, WORKERS):
        assert len({column.key for column in columns} | {"q"}) == len(columns) + 1


@pytest.mark.parametrize(("number", "text"), [(0, "0B"), (1023, "1023B"), (1536, "1.5K"), (20 << 20, "20M"), (1 << 60, "1048576T")])  # fmt: skip  # noqa: E501
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0us"), (0.00085, "850us"), (0.012, "12ms"), (1.5, "1.5s")])
def test_durations(value: float, text: str) -> None:
    assert seconds(value) == text


def test_on_a_terminal_apps_are_watched_sorted_and_opened(segments: list[Segment], tmp_path: Path) -> None:
    with Terminal("palatine", "top", "--runtime-dir", str(tmp_path), "--every", "0.2", rows=20) as terminal:
        terminal.wait_for("2 apps", "blog", "shop", r"REQ/S")
        store(segments[0], "cores", 0, 1, requests=2_000_000)
        terminal.press("t")
        terminal.wait_for(r"REQUESTS\*", r"2,000,\d\d\d")
        terminal.press("\x1b[B")
        terminal.press("\n")
        terminal.wait_for("WID", r"GET /", "busy", "esc back")
        terminal.press("\x1b")
        terminal.wait_for("2 apps")
        terminal.press("q")
        assert terminal.leave() == 0
        assert "\x1b[?1049l" in terminal.raw


def test_the_terminal_is_given_back_when_it_is_killed(segments: list[Segment], tmp_path: Path) -> None:
    del segments
    with Terminal("palatine", "top", "shop", "--runtime-dir", str(tmp_path)) as terminal:
        terminal.wait_for("WID", "STATUS")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.leave() == 128 + signal.SIGTERM
        assert terminal.raw.endswith("\x1b[?25h\x1b[?1049l")


def test_without_a_terminal_it_is_plain_text(segments: list[Segment], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "palatine.cli", "top", "shop", "--runtime-dir", str(tmp_path), "--count", "2"]
    done = subprocess.run([*words, "--every", "0.01"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("WID") == 2
    assert done.stdout.count("GET /") == 8
    assert "\033" not in done.stdout
    segments[0].close(unlink=True)
    assert wait_until(lambda: main(["palatine", "top", "nobody", "--runtime-dir", str(tmp_path)]), "its end") == 69
