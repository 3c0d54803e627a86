"""How an emperor's lines reach the log: uWSGI's text as it stands, or events where JSON is asked for."""

import time
from collections.abc import Callable

import structlog

from palatine_emperor.vassal import Say


class Voice:
    """Says lines through `write`, which takes a line without its end; with `log` they become events of it instead."""

    def __init__(self, write: Callable[[str], None], log: structlog.stdlib.BoundLogger | None) -> None:
        self._write = write
        self._log = log

    def say(self, line: Say) -> None:
        """One line, with the time before it where uWSGI puts it."""
        if self._log is not None:
            self._log.info(line.event, message=line.text)
        else:
            self._write(f"{time.ctime()} - {line.text}" if line.stamped else line.text)

    def plain(self, event: str, text: str) -> None:
        """A line uWSGI says without the time."""
        self.say(Say(event, text, stamped=False))

    def stamped(self, event: str, text: str) -> None:
        """A line uWSGI says with the time."""
        self.say(Say(event, text))
