"""py-auto-reload: a thread of worker 1 that looks for changed modules and asks for a reload. For development."""

import os
import sys
import threading
from collections.abc import Callable, Sequence

from palatine_app_server.system import own_lines


def watch(seconds: int, ignored: Sequence[str], ask: Callable[[], None]) -> None:
    """Look every `seconds` in a thread of its own; `ask` is called for each change found."""
    seen: dict[str, float] = {}
    changed(seen, ignored)
    own_lines.say("Python auto-reloader enabled")
    threading.Thread(target=_look_for_ever, args=(seconds, seen, ignored, ask), name="autoreload", daemon=True).start()


def changed(seen: dict[str, float], ignored: Sequence[str]) -> list[str]:
    """Modules whose file has another mtime than in `seen`, which is brought up to date."""
    found = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name in ignored or not isinstance(path, str):
            continue
        try:
            mtime = os.stat(path.removesuffix("c") if path.endswith(".pyc") else path).st_mtime
        except OSError:  # being written, or gone: looked at again next time
            continue
        if seen.setdefault(name, mtime) != mtime:
            seen[name] = mtime
            found.append(f"{name}/{path}")
    return found


def _look_for_ever(seconds: int, seen: dict[str, float], ignored: Sequence[str], ask: Callable[[], None]) -> None:
    pause = threading.Event()
    while not pause.wait(seconds):
        found = changed(seen, ignored)
        for text in found:
            own_lines.say(f"[uwsgi-python-reloader] module/file {text} has been modified")
        if found:
            ask()
