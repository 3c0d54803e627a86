"""What routes see and do outside of a request: files, clocks, passwords, and the server's own functions."""

import base64
import binascii
import ctypes
import hashlib
import hmac
import itertools
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from palatine.process_title import set_title
from palatine_app_server.routing.route_walk import Effect, number
from palatine_app_server.serving import http_ranges, mime_types

_METRICS: Final = {
    "metricinc": "metric_inc", "metricdec": "metric_dec", "metricmul": "metric_mul", "metricdiv": "metric_div",
    "metricset": "metric_set",
}  # fmt: skip
_TESTS: Final[Mapping[str, Callable[[str], bool]]] = {
    "exists": os.path.exists,
    "isfile": os.path.isfile,
    "isdir": os.path.isdir,
    "islink": os.path.islink,
    "isexec": lambda path: os.access(path, os.X_OK),
}


class Outside:
    """`route_policy.World` of a real worker; `say` writes a line to the log."""

    def __init__(self, types: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._types = types
        self._say = say
        self._turns = itertools.count()

    def is_file(self, kind: str, path: str) -> bool:
        """See `World`."""
        return "\0" not in path and _TESTS[kind](_path(path))

    def value(self, function: str, key: str) -> str:
        """See `World`; "" for what is unknown."""
        if function == "mime":
            return self._types.get(mime_types.ending_of(key), "")
        if function == "date":
            return http_ranges.format_date(number(key))
        if function == "httptime":
            return http_ranges.format_date(int(time.time()) + number(key))
        if function == "metric":
            get = getattr(sys.modules.get("uwsgi"), "metric_get", None)
            return str(get(key)) if get is not None else ""
        found = _VALUES.get((function, key))
        return found() if found is not None else ""

    def say(self, text: str) -> None:
        """See `World`."""
        self._say(text)

    def path(self, text: str) -> str:
        """See `World`."""
        return _path(text)

    def modified(self, path: str) -> int | None:
        """See `World`."""
        try:
            return int(os.stat(_path(path)).st_mtime)
        except (OSError, ValueError):
            return None

    def turn(self) -> int:
        """See `World`."""
        return next(self._turns)

    def cached(self, key: str, cache: str) -> bytes | None:
        """See `World`."""
        found: bytes | None = sys.modules["uwsgi"].cache_get(key.encode("latin-1", "replace"), cache or None)
        return found

    def expiry(self, key: str, cache: str) -> int:
        """See `World`."""
        found: int = sys.modules["uwsgi"]._cache_expiry(key.encode("latin-1", "replace"), cache or None)  # noqa: SLF001 - ours
        return found

    def attribute(self, path: str, name: str) -> str:
        """See `World`."""
        try:
            return os.getxattr(_path(path), name).decode("latin-1")
        except (OSError, ValueError):
            return ""

    def cache(self, verb: str, key: str, value: bytes | int, expires: int, cache: str) -> None:
        """See `World`."""
        name = key.encode("latin-1", "replace")
        getattr(sys.modules["uwsgi"], f"cache_{verb}")(name, value, expires, cache or None)

    def password_fits(self, authorization: str, secret: str) -> str:
        """See `World`."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return ""
        user, colon, password = given.partition(b":")
        if not colon or not user:
            return ""
        if ":" in secret:
            fits = hmac.compare_digest(given, secret.encode("utf-8", "surrogateescape"))
        else:
            fits = self._in_file(secret, user, password)
        return user.decode("latin-1") if fits else ""

    def perform(self, effect: Effect) -> None:
        """Do what a route wanted done; what cannot be done is one line in the log."""
        name, arguments = effect
        try:
            if name == "log":
                self._say(arguments[0])
            elif name == "chdir":
                os.chdir(_path(arguments[0]))
            elif name == "setprocname":
                set_title(arguments[0])
            else:
                self._call(name, arguments)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self._say(f"[uwsgi-route] {name}:{' '.join(arguments)}: {error}")

    @staticmethod
    def _call(name: str, arguments: tuple[str, ...]) -> None:
        api = sys.modules["uwsgi"]
        if name == "alarm":
            api.alarm(*arguments)
        elif name == "signal":
            api.signal(number(arguments[0]))
        elif name == "harakiri":
            api.set_user_harakiri(number(arguments[0]))
        else:
            word, metric, *by = arguments
            getattr(api, _METRICS[word])(metric, number(by[0]) if by else 1)

    def _in_file(self, path: str, user: bytes, password: bytes) -> bool:
        """Whether a password file (htpasswd: {SHA} and what crypt(3) knows) has this user with this password."""
        try:
            with open(path, "rb") as file:
                lines = file.read().splitlines()
        except OSError as error:
            self._say(f"[uwsgi-route] {path}: {error.strerror}")
            return False
        for line in lines:
            name, colon, stored = line.partition(b":")
            if colon and hmac.compare_digest(name, user) and hmac.compare_digest(_hashed(password, stored), stored):
                return True
        return False


def _hashed(password: bytes, stored: bytes) -> bytes:
    if stored.startswith(b"{SHA}"):
        return b"{SHA}" + base64.b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
    if b"\0" in password:
        return b""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt_ra.restype = ctypes.c_char_p
    data, size = ctypes.c_void_p(), ctypes.c_int(0)  # crypt_ra(3): a buffer of our own, safe among threads
    found: bytes | None = library.crypt_ra(password, stored, ctypes.byref(data), ctypes.byref(size))
    if data.value:
        ctypes.CDLL(None).free(data)
    return found or b""


def _path(text: str) -> str:
    """A path as request variables spell it, latin-1, as the file system does."""
    return os.fsdecode(text.encode("latin-1", "replace"))


_VALUES: Final[Mapping[tuple[str, str], Callable[[], str]]] = {
    ("time", "unix"): lambda: str(int(time.time())),
    ("time", "micros"): lambda: str(time.time_ns() // 1000),
    ("uwsgi", "pid"): lambda: str(os.getpid()),
    ("uwsgi", "lq"): lambda: str(sys.modules["uwsgi"].listen_queue()),
    ("uwsgi", "wid"): lambda: str(sys.modules["uwsgi"].worker_id()),
    ("uwsgi", "uuid"): lambda: str(uuid.uuid4()),
}
