"""The one exception hierarchy. Raised anywhere, translated to exit codes or replies only at a daemon's edge."""


class PalatineError(Exception):
    """Base of every error palatine raises on purpose; `exit_status` is what a daemon exits with."""

    exit_status = 1


class ConfigError(PalatineError):
    """A setting is wrong; names the file, line and column (1-based, 0 where unknown) it stands at.

    `fallback` is the configuration to take instead, where one was named before this went wrong (`fallback-config`).
    """

    exit_status = 78

    def __init__(self, message: str, path: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.line = line
        self.column = column
        self.fallback = ""

    def __str__(self) -> str:
        place = ":".join([self.path, *(str(n) for n in (self.line, self.column) if n)])
        return f"{place}: {self.message}" if self.path else self.message


class ProtocolError(PalatineError):
    """Bytes from outside do not follow their protocol."""

    exit_status = 76


class PeerError(PalatineError):
    """A peer refused a request, or is not who it must be; `code` is the peer's own word for it."""

    exit_status = 69

    def __init__(self, message: str, code: str = "error") -> None:
        super().__init__(message)
        self.code = code


class DeadlineError(PeerError):
    """No answer came before the deadline."""

    exit_status = 75

    def __init__(self, message: str) -> None:
        super().__init__(message, code="deadline")


class AlreadyRunningError(PalatineError):
    """Another live process holds the lock of this endpoint or state directory."""

    exit_status = 75
