"""Log events as lines for people: time, daemon, level, event, then key=value; must never be parsed by anything."""

from typing import Any, Final

from structlog.typing import EventDict, WrappedLogger

_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_EVENT_WIDTH: Final = 26


class ConsoleRenderer:
    """A structlog renderer; `colour` adds ANSI sequences."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        """One line, and the traceback below it if there is one."""
        level = str(event.pop("level", "info"))
        head = (
            self._paint("2", str(event.pop("timestamp", ""))),
            self._paint("36", f"{event.pop('daemon', '')!s:<14}"),
            self._paint(_COLOURS.get(level, ""), f"{level:<7}"),
            self._paint("1", f"{event.pop('event', '')!s:<{_EVENT_WIDTH}}"),
        )
        trace = event.pop("exception", None)
        pairs = " ".join(f"{self._paint('36', key)}={_shown(value)}" for key, value in event.items())
        line = " ".join((*head, pairs)).rstrip()
        return f"{line}\n{trace}" if trace else line

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour and code else text


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    plain = text.isprintable() and not any(c in text for c in ' "=') and text
    return text if plain else repr(text) if isinstance(value, str) else text
