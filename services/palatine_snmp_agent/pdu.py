"""What a PDU comes to: a view and a body in, the varbinds of the response or a refusal out; must never know messages.

Rules: RFC 1157 for v1, RFC 3416 for v2c and v3, and these choices:

- v1 has no Counter64 (RFC 3584 section 4.2.2.1). Its walks skip such cells; its exact GETs are answered all the same,
  because uWSGI does: a v1 manager that has polled the request counter of a uWSGI for years would otherwise lose the
  only number it asks for.
- A GETBULK gets the repetitions that fit. A request that makes the agent pass over more than `MAX_SKIPPED` cells gets
  tooBig, whose remedy, fewer names, is the same.
- A cell that cannot be read (its segment was cut short) is genErr at its index.

Whoever asks has called the view's `begin` before, also before finding targets.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, PduType, Version
from palatine.errors import ProtocolError
from palatine_snmp_agent.view import EXCEPTIONS, Target, View, Writer

#: Cells without a value that one datagram may make the agent pass over: 2 ms at most.
MAX_SKIPPED: Final = 5000
#: Rows of a GETBULK, whatever the reply would hold.
MAX_REPETITIONS: Final = 1000

_V1: Final = int(Version.V1)


class RefusalError(Exception):
    """The request gets an error-status; `index` counts its varbinds from 1. An answer, not an error of ours."""

    def __init__(self, status: ErrorStatus, index: int = 0) -> None:
        super().__init__(status.name)
        self.status = int(status)
        self.index = index


def answer(
    view: View, version: int, pdu_type: int, body: Body, room: int, visited: list[Writer] | None = None
) -> list[bytes]:
    """The varbinds, written, that answer a GetNext, GetBulk or Set; those of a GetBulk take at most `room` octets.

    `visited` gets the cells looked at, those without a value included.

    Raises:
        RefusalError: they are refused.
    """
    visited = [] if visited is None else visited
    if pdu_type == PduType.GET_NEXT:
        return _get_next(view, version, body, visited)
    if pdu_type == PduType.GET_BULK:
        return _get_bulk(view, body, room, visited)
    return _set(version, body)


def is_one_column(version: int, body: Body) -> bool:
    """Whether a GetNext or GetBulk asks for what follows one name, and nothing of that is hidden from it."""
    return version != _V1 and len(body.varbinds) == 1 and body.non_repeaters <= 0


def get(version: int, targets: Iterable[Target]) -> list[bytes]:
    """The varbinds, written, that answer a Get of these targets; RefusalError as `answer`."""
    written: list[bytes] = []
    try:
        for _name, write, absent in targets:
            varbind = write()
            if not varbind:
                if version == _V1 and absent[-2] >= EXCEPTIONS:  # tag and length of an empty value come last
                    raise RefusalError(ErrorStatus.NO_SUCH_NAME, len(written) + 1)
                varbind = absent
            written.append(varbind)
    except ProtocolError as error:
        raise RefusalError(ErrorStatus.GEN_ERR, len(written) + 1) from error
    return written


def _get_next(view: View, version: int, body: Body, visited: list[Writer]) -> list[bytes]:
    walk = _Walk(view, visited, hide_counter64=version == _V1)
    written: list[bytes] = []
    try:
        for varbind in body.varbinds:
            step = next(walk.steps(varbind.oid), None)
            if step is None:
                raise RefusalError(ErrorStatus.TOO_BIG)
            written.append(step)
            if walk.ended and version == _V1:
                raise RefusalError(ErrorStatus.NO_SUCH_NAME, len(written))
    except ProtocolError as error:
        raise RefusalError(ErrorStatus.GEN_ERR, len(written) + 1) from error
    return written


def _get_bulk(view: View, body: Body, room: int, visited: list[Writer]) -> list[bytes]:
    once = max(body.non_repeaters, 0)
    repetitions = min(max(body.max_repetitions, 0), MAX_REPETITIONS)
    names = [varbind.oid for varbind in body.varbinds]
    written: list[bytes] = []
    try:
        if once:
            room = _rows(_Walk(view, visited), names[:once], 1, written, room)
        _rows(_Walk(view, visited), names[once:], repetitions, written, room)
    except ProtocolError as error:
        raise RefusalError(ErrorStatus.GEN_ERR, 1) from error
    return written


def _rows(walk: "_Walk", names: list[bytes], repetitions: int, written: list[bytes], room: int) -> int:
    """Add up to so many rows of what follows each name, as long as there is room; returns what is left of it."""
    columns = [walk.steps(name) for name in names]
    for row in islice(zip(*columns, strict=False), repetitions):  # a column that gives up ends them all
        for step in row:
            room -= len(step)
            if room < 0:
                return 0
            written.append(step)
        if walk.ended == len(columns):
            break
    return room


def _set(version: int, body: Body) -> list[bytes]:
    if not body.varbinds:
        return []
    # RFC 1157 section 4.1.5 names this noSuchName, not readOnly; RFC 3416 section 4.2.5 (2) notWritable.
    raise RefusalError(ErrorStatus.NO_SUCH_NAME if version == _V1 else ErrorStatus.NOT_WRITABLE, 1)


class _Walk:
    """The steps one datagram makes through a view; counts the columns that came to the end."""

    def __init__(self, view: View, visited: list[Writer], *, hide_counter64: bool = False) -> None:
        self._view = view
        self._visited = visited
        self._hide_counter64 = hide_counter64
        self._patience = MAX_SKIPPED
        self.ended = 0

    def steps(self, oid: bytes) -> Iterator[bytes]:
        """The varbinds after a name, written; then, for ever, the last name with endOfMibView.

        Stops where the datagram has made us pass over too many cells.
        """
        hide = self._hide_counter64
        last = ber.encode(ber.OBJECT_IDENTIFIER, oid)
        visit = self._visited.append
        for name, write, _ in self._view.after(oid):
            varbind = write()
            visit(write)
            if varbind and not (hide and _is_counter64(varbind, name)):
                last = name
                yield varbind
            elif self._patience:
                self._patience -= 1
            else:
                return
        self.ended += 1
        while True:
            yield ber.encode(ber.SEQUENCE, last + snmp.END_OF_MIB_VIEW)


def _is_counter64(varbind: bytes, name: bytes) -> bool:
    start, _ = ber.content(varbind, 0, len(varbind), ber.SEQUENCE)
    return varbind[start + len(name)] == snmp.COUNTER64
