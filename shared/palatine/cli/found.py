"""What runs here, read from counter segments; must never ask a process, nor make a directory."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from palatine.companions import EXTRAS
from palatine.counters import SegmentView
from palatine.errors import PalatineError, PeerError
from palatine.schema import DAEMON_STATES, SERVER_STATES

DAEMONS: Final = tuple(name for name in EXTRAS if name != "app-server")
#: Runtime directories inside a runtime directory: an app's own companions, and `palatine up`.
_NESTED: Final = ("private-*", "up")


class Found(NamedTuple):
    """A daemon or an instance. `state` is "dead" for one that was killed, "unreadable" for one we may not look at."""

    kind: str
    name: str
    directory: Path
    state: str
    pid: int = 0
    uid: int = 0
    started: int = 0
    status: str = ""
    labels: Mapping[str, Any] = {}
    figures: Mapping[str, int] = {}

    @property
    def alive(self) -> bool:
        """Whether its process lives, as far as we can see."""
        return self.state not in {"dead", "unreadable"}

    @property
    def after_kill(self) -> str:
        """What to do about one that is dead."""
        if self.name == "emperor" and self.kind == "daemon":
            return "its vassals go on: start it again, and it adopts them"
        return f"its next start cleans up; if it is not wanted any more, remove {self.directory}"

    @property
    def ctl(self) -> Path:
        """Where it takes requests."""
        return self.directory / "ctl"


def runtimes(override: str | None = None) -> list[Path]:
    """The runtime directories to look into, those that exist: the one named, else every usual one; then nested ones."""
    named = override or os.environ.get("PALATINE_RUNTIME_DIR")
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    usual = ["/run/palatine", *([f"{xdg}/palatine"] if xdg else []), f"/tmp/palatine-{os.geteuid()}"]  # noqa: S108 - owner checked
    tops = [path for path in map(Path, [named] if named else usual) if _ours_or_roots(path)]
    return [
        path for top in tops for path in (top, *(p for one in _NESTED for p in sorted(top.glob(one)) if p.is_dir()))
    ]


def look(runtime: Path) -> list[Found]:
    """Daemons of a runtime directory, then its instances, each by name."""
    daemons = [_daemon(runtime / name, name) for name in DAEMONS if (runtime / name / "seg").exists()]
    try:
        names = sorted(os.listdir(runtime / "i"))
    except OSError:  # none there, or not for us to see
        names = []
    return daemons + [_instance(runtime / "i" / name, name) for name in names]


def look_everywhere(override: str | None = None) -> dict[Path, list[Found]]:
    """`look` for all runtime directories in which there is something."""
    found = {runtime: look(runtime) for runtime in runtimes(override)}
    return {runtime: things for runtime, things in found.items() if things}


def pick(names: list[str], things: Mapping[Path, list[Found]]) -> list[Found]:
    """The living things of these names (all of them for no names); PeerError for one that is not there or ambiguous."""
    living = [thing for some in things.values() for thing in some if thing.alive]
    picked = []
    for name in names:
        same = [thing for thing in living if thing.name == name]
        if not same:
            known = ", ".join(sorted({thing.name for thing in living})) or "nothing"
            raise PeerError(f"no {name!r} runs here; what does: {known}", "not-found")
        if len(same) > 1:
            where = ", ".join(str(thing.directory) for thing in same)
            raise PeerError(f"{name!r} runs {len(same)} times: choose by --runtime-dir ({where})", "ambiguous")
        picked += same
    return picked if names else living


def _nested(top: Path) -> list[Path]:
    return [path for pattern in _NESTED for path in sorted(top.glob(pattern)) if path.is_dir()]


def _ours_or_roots(path: Path) -> bool:
    try:
        facts = path.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid in {0, os.geteuid()}


def _daemon(directory: Path, name: str) -> Found:
    with _opened(directory) as view:
        if isinstance(view, str):
            return Found("daemon", name, directory, "unreadable", status=view)
        row = view.row("daemon")
        state = _word(DAEMON_STATES, row["state"]) if view.alive() else "dead"
        status = view.text("daemon").decode(errors="replace")
        return Found(
            "daemon", name, directory, state, row["pid"], row["uid"], row["started"], status, view.labels, row
        )  # fmt: skip


def _instance(directory: Path, name: str) -> Found:
    with _opened(directory) as view:
        if isinstance(view, str):
            return Found("instance", name, directory, "unreadable", status=view)
        row = view.row("server")
        state = _word(SERVER_STATES, row["state"]) if view.alive() else "dead"
        figures = {**row, **dict(_sums(view))}
        return Found(
            "instance", name, directory, state, row["pid"], row["uid"], row["started"], "", view.labels, figures
        )  # fmt: skip


def _sums(view: SegmentView) -> Iterator[tuple[str, int]]:
    """An instance's workers and cores added up."""
    cores, slots, workers = view.read("cores"), view.read("slots"), view.read("workers")
    yield "requests", sum(core["requests"] for core in cores)
    yield "tx", sum(core["tx"] for core in cores)
    yield "exceptions", sum(core["exceptions"] for core in cores)
    yield "busy", sum(core["in_request"] for core in cores)
    yield "cores", len(cores)
    yield "workers", sum(1 for slot in slots if slot["pid"])
    yield "slots", len(slots)
    yield "accepting", sum(worker["accepting"] for worker in workers)
    times = [core["avg_rt"] for core in cores if core["avg_rt"]]
    yield "avg_rt", sum(times) // len(times) if times else 0


class _opened:  # noqa: N801 - reads as a function
    """A directory's segment for a `with` block, or in words why there is none to read."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._view: SegmentView | None = None

    def __enter__(self) -> SegmentView | str:
        try:
            owner = self._directory.stat(follow_symlinks=False).st_uid
            self._view = SegmentView.open(self._directory / "seg", owner=owner)
        except FileNotFoundError:
            return "starting, or left behind"
        except (OSError, PalatineError) as error:
            return str(error)
        return self._view

    def __exit__(self, *_: object) -> None:
        if self._view is not None:
            self._view.close()


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if number < len(words) else f"state {number}"
