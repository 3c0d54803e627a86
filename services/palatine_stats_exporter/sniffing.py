"""Tell an HTTP request from a raw reader by its first bytes; pure: no socket, no clock, never raises on any bytes.

uWSGI serves a stats socket either raw (`stats`) or by HTTP (`stats-http`). Here both are told apart on one port:
a client of a `stats-http` socket is waited for, a client of a plain one is given a moment to say something.
"""

import enum
import re
from typing import Final

#: A request head longer than this is answered without reading on (uWSGI reads at most 4096 bytes, once).
HEAD_BYTES: Final = 8192

_METHOD: Final = re.compile(rb"[A-Z]{1,20}(?: |\Z)")
_END: Final = re.compile(rb"\r?\n\r?\n")


class Verdict(enum.Enum):
    """What to do with a client after what it sent so far."""

    WAIT = "read on"
    RAW = "send the document alone"
    HTTP = "send the header, then the document"
    HEAD = "send the header alone"
    CLOSE = "send nothing"


def judge(received: bytes, *, http: bool, over: bool) -> Verdict:
    """What the client wants.

    Args:
        received: every byte it sent so far.
        http: the socket was configured with `stats-http`, so whatever arrives is a request.
        over: nothing more will be waited for: its time is up, or it has ended its sending side.
    """
    if not received:
        if not over:
            return Verdict.WAIT
        return Verdict.CLOSE if http else Verdict.RAW
    if not http and not _METHOD.match(received):
        return Verdict.RAW
    if not over and len(received) < HEAD_BYTES and not _END.search(received):
        return Verdict.WAIT
    return Verdict.HEAD if received.startswith(b"HEAD ") else Verdict.HTTP


def may_have_body(received: bytes) -> bool:
    """Whether bytes nobody reads may follow: closing on them would reset the connection under our own answer."""
    return bool(received) and not received.startswith((b"GET ", b"HEAD "))
