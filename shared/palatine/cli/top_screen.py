"""`palatine top`'s screen as lines of text, and what keys do to it; pure: no terminal, no clock, no file.

Whatever counters say (a URI may hold anything) is shown without control characters: a terminal obeys those.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from palatine.cli.found import Found
from palatine.cli.text import Paint, duration
from palatine.cli.top_facts import Worker

Size = tuple[int, int]
_UNITS: Final = ("B", "K", "M", "G", "T")
_REVERSED: Final = "7"
_DIRECTIONS: Final = ("up", "down", "right", "left")


class Column(NamedTuple):
    """One column: its title, the key that sorts by it, what it shows of a row and what it sorts by."""

    title: str
    key: str
    text: Callable[[Any, float], str]
    order: Callable[[Any], Any]
    left: bool = False
    falling: bool = True


class App(NamedTuple):
    """One instance or daemon's line."""

    thing: Found
    rate: float | None = None

    def figure(self, name: str) -> int:
        """One of its numbers, 0 where it has none."""
        return self.thing.figures.get(name, 0)


class View(NamedTuple):
    """What is shown: all apps or the workers of one (`opened`), sorted by a column's key, one app `chosen`."""

    opened: str = ""
    chosen: str = ""
    apps_by: str = "n"
    workers_by: str = "w"
    backwards: bool = False
    ended: bool = False


APPS: Final = (
    Column("APP", "n", lambda app, _: app.thing.name, lambda app: app.thing.name, left=True, falling=False),
    Column("STATE", "s", lambda app, _: app.thing.state, lambda app: app.thing.state, left=True, falling=False),
    Column("REQ/S", "r", lambda app, _: _rate(app.rate), lambda app: app.rate or 0.0),
    Column("REQUESTS", "t", lambda app, _: f"{app.figure('requests'):,}", lambda app: app.figure("requests")),
    Column("BUSY", "b", lambda app, _: f"{app.figure('busy')}/{app.figure('cores')}", lambda app: app.figure("busy")),
    Column(
        "WORKERS", "w", lambda app, _: f"{app.figure('workers')}/{app.figure('slots')}", lambda a: a.figure("workers")
    ),
    Column("QUEUE", "u", lambda app, _: f"{app.figure('listen_queue')}", lambda app: app.figure("listen_queue")),
    Column("AVG", "a", lambda app, _: seconds(app.figure("avg_rt") / 1e6), lambda app: app.figure("avg_rt")),
    Column("EXC", "e", lambda app, _: f"{app.figure('exceptions'):,}", lambda app: app.figure("exceptions")),
    Column("TX", "x", lambda app, _: size(app.figure("tx")), lambda app: app.figure("tx")),
    Column("UP", "p", lambda app, now: _since(app.thing.started, now), lambda app: app.thing.started),
)
WORKERS: Final = (
    Column("WID", "w", lambda one, _: str(one.id), lambda one: one.id, falling=False),
    Column("PID", "p", lambda one, _: str(one.pid), lambda one: one.pid, falling=False),
    Column("STATUS", "s", lambda one, _: one.status, lambda one: one.status, left=True, falling=False),
    Column("REQ/S", "r", lambda one, _: _rate(one.rate), lambda one: one.rate or 0.0),
    Column("REQUESTS", "t", lambda one, _: f"{one.requests:,}", lambda one: one.requests),
    Column("AVG", "a", lambda one, _: seconds(one.avg_time), lambda one: one.avg_time),
    Column("EXC", "e", lambda one, _: f"{one.exceptions:,}", lambda one: one.exceptions),
    Column("HARAKIRI", "h", lambda one, _: str(one.harakiri), lambda one: one.harakiri),
    Column("RESPAWNS", "o", lambda one, _: str(one.respawns), lambda one: one.respawns),
    Column("RSS", "m", lambda one, _: size(one.rss), lambda one: one.rss),
    Column("TX", "x", lambda one, _: size(one.tx), lambda one: one.tx),
    Column("UP", "l", lambda one, now: _since(one.last_spawn, now), lambda one: one.last_spawn),
    Column("SERVING", "v", lambda one, _: one.serving, lambda one: one.serving, left=True, falling=False),
)
_KEY: Final = re.compile(r"(\x1b[\[O][0-9;?]*[A-Za-z~])|(.)", re.DOTALL)
_ARROWS: Final = {
    **{f"\x1b{mode}{letter}": name for mode in "[O" for letter, name in zip("ABCD", _DIRECTIONS, strict=True)},
    "\x7f": "backspace",
}
_STATUS_COLOURS: Final = {"busy": "32", "cheap": "35", "pause": "34"}


def keys_of(typed: str) -> list[str]:
    """What was typed, key by key: arrows by their names, a lone escape as itself, any other sequence as nothing."""
    found = []
    for sequence, letter in _KEY.findall(typed):
        name = _ARROWS.get(sequence, "") if sequence else _ARROWS.get(letter, letter)
        if name:
            found.append(name)
    return found


def press(view: View, key: str, names: Sequence[str]) -> View:
    """The view after a key; `names` are the apps in the order they are shown."""
    if key in {"q", "\x03", "\x04"}:
        return view._replace(ended=True)
    if view.opened:
        if key in {"\x1b", "left", "backspace"}:
            return view._replace(opened="", backwards=False)
        return _sorted_by(view, WORKERS, key)
    if key in {"up", "down"} and names:
        at = names.index(view.chosen) if view.chosen in names else -1 if key == "down" else len(names)
        return view._replace(chosen=names[min(len(names) - 1, max(0, at + (1 if key == "down" else -1)))])
    if key in {"\r", "\n", "right"} and view.chosen in names:
        return view._replace(opened=view.chosen, backwards=False)
    return _sorted_by(view, APPS, key)


def ordered_apps(view: View, apps: Sequence[App]) -> list[App]:
    """Apps as the view sorts them."""
    found: list[App] = _ordered(apps, APPS, view.apps_by, lambda app: app.thing.name, backwards=view.backwards)
    return found


def apps_screen(view: View, apps: Sequence[App], now: float, paint: Paint, within: Size) -> list[str]:
    """All apps, one line each: as many as fit into columns and rows, those around the chosen one."""
    ordered = ordered_apps(view, apps)
    at = next((number for number, app in enumerate(ordered) if app.thing.name == view.chosen), -1)
    lines = _lines(ordered, APPS, view.apps_by, now, within[0])
    body = [
        paint(_REVERSED, line) if number == at else paint.state(line, app.thing.state)
        for number, (app, line) in enumerate(zip(ordered, lines[1:], strict=True))
    ]
    rates = sum(app.rate or 0.0 for app in apps)
    title = f"{len(apps)} apps  {_rate(rates)} requests/s  {sum(app.figure('busy') for app in apps)} busy"
    keys = "up/down choose  enter open  n s r t b w u a e x p sort  q quit"
    return _framed(title, paint("1", lines[0]), _window(body, at, within[1] - 4), keys, within[0])


def workers_screen(
    view: View, app: App, workers: Sequence[Worker], now: float, paint: Paint, within: Size
) -> list[str]:
    """The workers of one app."""
    ordered = _ordered(workers, WORKERS, view.workers_by, lambda one: one.id, backwards=view.backwards)
    lines = _lines(ordered, WORKERS, view.workers_by, now, within[0])
    body = [paint(_STATUS_COLOURS.get(one.status, ""), line) for one, line in zip(ordered, lines[1:], strict=True)]
    figures = app.thing.figures
    parts = [printable(app.thing.name), app.thing.state, f"pid {app.thing.pid}", f"{_rate(app.rate)} requests/s"]
    parts += [f"{figures.get('busy', 0)}/{figures.get('cores', 0)} busy", f"{figures.get('listen_queue', 0)} queued"]
    keys = "esc back  w p s r t a e h o m x l v sort  q quit"
    return _framed("  ".join(parts), paint("1", lines[0]), body[: max(0, within[1] - 4)], keys, within[0])


def printable(text: str) -> str:
    """Text without what a terminal would obey or could not show."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def size(number: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point: `1.5G`."""
    value, at = float(number), 0
    while value >= 1024 and at < len(_UNITS) - 1:
        value, at = value / 1024, at + 1
    return f"{value:.1f}{_UNITS[at]}" if at and value < 10 else f"{value:.0f}{_UNITS[at]}"


def seconds(value: float) -> str:
    """A short duration: `850us`, `12ms`, `1.5s`."""
    if value < 0.001:
        return f"{value * 1e6:.0f}us"
    return f"{value * 1e3:.0f}ms" if value < 1 else f"{value:.1f}s"


def _sorted_by(view: View, columns: Sequence[Column], key: str) -> View:
    if key not in {column.key for column in columns}:
        return view
    again = key == (view.workers_by if view.opened else view.apps_by)
    chosen = view._replace(backwards=again and not view.backwards)
    return chosen._replace(workers_by=key) if view.opened else chosen._replace(apps_by=key)


def _ordered(
    rows: Sequence[Any], columns: Sequence[Column], key: str, tie: Callable[[Any], Any], *, backwards: bool
) -> list[Any]:
    by = next(column for column in columns if column.key == key)
    return sorted(sorted(rows, key=tie), key=by.order, reverse=by.falling is not backwards)


def _lines(rows: Sequence[Any], columns: Sequence[Column], by: str, now: float, width: int) -> list[str]:
    """A line of titles and one for each row, cut to the width."""
    titles = [f"{column.title}{'*' if column.key == by else ''}" for column in columns]
    table = [titles, *([printable(column.text(row, now)) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(wide) if column.left else cell.rjust(wide)
            for cell, wide, column in zip(cells, widths, columns, strict=True)
        ).rstrip()[:width]
        for cells in table
    ]


def _framed(title: str, head: str, body: Sequence[str], keys: str, width: int) -> list[str]:
    return [f"palatine top  {title}"[:width], "", head, *body, keys[:width]]


def _window(body: list[str], at: int, height: int) -> list[str]:
    """As many lines as fit, the chosen one among them."""
    first = max(0, min(at - height // 2, len(body) - height)) if at >= height else 0
    return body[first : first + max(0, height)]


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"


def _since(moment: int, now: float) -> str:
    return duration(now - moment) if moment else "-"
