"""Layout of a counter segment, as bytes in and values out; never opens, maps or locks anything.

    offset  bytes
         0      8  magic
         8      2  version
        10      2  size of this fixed header
        12      4  bytes of schema JSON that follow it
        16      8  size of the file
        24      8  offset of the first row
        32     16  uuid of this segment
        48     16  boot id of the machine
        64      8  created, unix time in microseconds
        72      4  CRC-32 of bytes 0-71 and the schema JSON
       120      8  ready: 1 once everything else is in place, the last store of all
       128         schema JSON, then, each on a 64-byte boundary, the rows

A row is one word per field, then, if its table has texts, on the next 64-byte boundary a latch: a sequence word and two
copies of (mark word, text). The copy in force is number `sequence & 1`; a writer fills the other one and then adds one
to the sequence, so whatever moment it is killed at, one copy is whole. The mark is the length (low half) and CRC-32
(high half) of the text: a reader that raced two writes sees that they disagree and looks again.
"""

import functools
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from palatine.codec.segment_rows import WORD, text_copy_bytes
from palatine.errors import ProtocolError
from palatine.schema import KINDS, Field, Table, by_name

MAGIC: Final = b"palatseg"
VERSION: Final = 1
FIXED_BYTES: Final = 128
READY_OFFSET: Final = 120
ALIGN: Final = 64

# What a reader accepts from a file it does not trust; generous beside what instances are (some 30 KiB).
MAX_HEAD_BYTES: Final = 1 << 20
MAX_SIZE: Final = 32 << 20
MAX_ROWS: Final = 1 << 16
MAX_TABLES: Final = 64
MAX_FIELDS: Final = 256
MAX_VALUES: Final = 1 << 19  # rows * (fields + 1), over all tables: what a reader may have to hold
MAX_TEXT_BYTES: Final = 1 << 16
MAX_STATES: Final = 64
MAX_NAME: Final = 64
MAX_HELP: Final = 512

_FIXED: Final = struct.Struct("=8sHHIQQ16s16sQ")
_CRC: Final = struct.Struct("=I")
_WORD: Final = struct.Struct("=Q")
_CRC_OFFSET: Final = 72


class NotReadyError(ProtocolError):
    """The segment is still being published; looking again helps."""


class Placed(NamedTuple):
    """Where the rows of a table are: `offset` in bytes from the first row of the segment, `stride` bytes a row."""

    table: Table
    rows: int
    offset: int
    stride: int

    @property
    def text_offset(self) -> int:
        """Where in a row its latch begins."""
        return _aligned(len(self.table.fields) * WORD)

    @property
    def size(self) -> int:
        """Bytes of all its rows."""
        return self.table.banks * self.rows * self.stride

    @property
    def values(self) -> int:
        """What reading all of it makes a reader hold."""
        return self.rows * (len(self.table.fields) + 1)

    def row_offset(self, row: int, bank: int = 0) -> int:
        """Where a row begins, from the first row of the segment; IndexError outside the table."""
        if not (0 <= row < self.rows and 0 <= bank < self.table.banks):
            raise IndexError(f"table {self.table.name} has no row {row} in bank {bank}")
        return self.offset + (bank * self.rows + row) * self.stride


class Layout(NamedTuple):
    """The tables of a segment in their places, and the bytes their rows take together."""

    tables: tuple[Placed, ...]
    size: int


class Fixed(NamedTuple):
    """The fixed header: sizes and offsets in bytes, `created` in microseconds of unix time."""

    schema_bytes: int
    size: int
    rows_offset: int
    uuid: bytes
    boot_id: bytes
    created: int
    crc: int
    ready: bool


class Head(NamedTuple):
    """Everything before the rows, checked."""

    fixed: Fixed
    labels: dict[str, Any]
    tables: dict[str, Placed]


def plan(tables: Sequence[Table], rows: Mapping[str, int]) -> Layout:
    """Places for the tables. ValueError beyond the limits.

    A table missing in `rows` gets 1 row if it has no key, else 0.
    """
    unknown = set(rows) - set(by_name(tables))
    if unknown:
        raise ValueError(f"rows for tables the segment does not have: {', '.join(sorted(unknown))}")
    placed = []
    size = 0
    values = 0
    for table in tables:
        count = rows.get(table.name, 0 if table.key else 1)
        placed.append(Placed(table, count, size, _stride(table)))
        if not 0 <= count <= MAX_ROWS:
            raise ValueError(f"table {table.name} cannot have {count} rows: at most {MAX_ROWS}")
        size += placed[-1].size
        values += placed[-1].values
    if size > MAX_SIZE - MAX_HEAD_BYTES or values > MAX_VALUES:
        raise ValueError(f"a segment of {size} bytes and {values} values is too large")
    return Layout(tuple(placed), size)


def encode_head(layout: Layout, labels: Mapping[str, Any], *, uuid: bytes, boot_id: bytes, created: int) -> bytes:
    """Header and schema, up to where the rows begin, not marked ready.

    ValueError or TypeError for labels JSON cannot say.
    """
    tables = ",".join([_described(placed) for placed in layout.tables])
    schema = f'{{"labels":{_json(labels)},"tables":[{tables}]}}'.encode("ascii")
    if len(schema) > MAX_HEAD_BYTES - FIXED_BYTES:
        raise ValueError(f"labels and schema of {len(schema)} bytes are too large: at most {MAX_HEAD_BYTES}")
    rows_offset = _aligned(FIXED_BYTES + len(schema))
    size = rows_offset + layout.size
    fixed = _FIXED.pack(MAGIC, VERSION, FIXED_BYTES, len(schema), size, rows_offset, uuid, boot_id, created)
    crc = _CRC.pack(zlib.crc32(schema, zlib.crc32(fixed)))
    return ((fixed + crc).ljust(FIXED_BYTES, b"\0") + schema).ljust(rows_offset, b"\0")


def parse_fixed(data: bytes) -> Fixed:
    """The fixed header; ProtocolError unless it is one of ours with sizes that can be."""
    if len(data) < FIXED_BYTES:
        raise ProtocolError(f"a segment begins with {FIXED_BYTES} bytes, here are {len(data)}")
    magic, version, header, schema_bytes, size, rows_offset, uuid, boot_id, created = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise ProtocolError("not a counter segment")
    if version != VERSION or header != FIXED_BYTES:
        raise ProtocolError(f"segment of version {version}, this palatine reads {VERSION}")
    if not (FIXED_BYTES + schema_bytes <= rows_offset <= MAX_HEAD_BYTES + ALIGN and rows_offset % ALIGN == 0):
        raise ProtocolError(f"rows at {rows_offset} after {schema_bytes} bytes of schema cannot be")
    if not rows_offset <= size <= MAX_SIZE:
        raise ProtocolError(f"a segment of {size} bytes cannot be")
    (crc,) = _CRC.unpack_from(data, _CRC_OFFSET)
    (ready,) = _WORD.unpack_from(data, READY_OFFSET)
    return Fixed(schema_bytes, size, rows_offset, uuid, boot_id, created, crc, ready == 1)


def parse_head(data: bytes) -> Head:
    """What `encode_head` wrote, every offset checked.

    NotReadyError if it is not ready, ProtocolError for anything else wrong.
    """
    fixed = parse_fixed(data)
    if not fixed.ready:
        raise NotReadyError("the segment is not ready")
    schema = data[FIXED_BYTES : FIXED_BYTES + fixed.schema_bytes]
    if len(schema) != fixed.schema_bytes:
        raise ProtocolError(f"schema ends after {len(schema)} of {fixed.schema_bytes} bytes")
    if zlib.crc32(schema, zlib.crc32(data[:_CRC_OFFSET])) != fixed.crc:
        raise ProtocolError("the segment's head does not match its checksum")
    try:
        said = json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the segment's schema is not JSON: {error}") from error
    if not (isinstance(said, dict) and isinstance(said.get("labels"), dict)):
        raise ProtocolError("the segment's schema lacks labels")
    return Head(fixed, said["labels"], _tables(_list(said, "tables", MAX_TABLES), fixed.size - fixed.rows_offset))


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _stride(table: Table) -> int:
    words = _aligned(len(table.fields) * WORD)
    if not table.text_bytes:
        return words
    return words + _aligned(WORD + 2 * text_copy_bytes(table.text_bytes))


def _json(said: Any) -> str:
    return json.dumps(said, separators=(",", ":"), allow_nan=False)


def _described(placed: Placed) -> str:
    return f'{{"rows":{placed.rows},"offset":{placed.offset},"stride":{placed.stride},{_declared(placed.table)}}}'


@functools.cache
def _declared(table: Table) -> str:
    """What is so in every segment, as members of a JSON object: what a keeper has said once, its vassals share."""
    said = {
        "name": table.name,
        "key": table.key,
        "help": table.help,
        "banks": table.banks,
        "text": table.text_bytes,
        "fields": [_described_field(word, field) for word, field in enumerate(table.fields)],
    }
    return _json(said)[1:-1]


def _described_field(word: int, field: Field) -> dict[str, Any]:
    said: dict[str, Any] = {"name": field.name, "kind": field.kind, "unit": field.unit, "help": field.help}
    said["word"] = word
    said["merge"] = field.merge
    if field.snmp:
        said["snmp"] = field.snmp
    if field.signed:
        said["signed"] = True
    if field.states:
        said["states"] = field.states
    return said


def _tables(said: list[Any], room: int) -> dict[str, Placed]:
    tables: dict[str, Placed] = {}
    end = 0
    for described in said:
        placed = _placed(described, room)
        if placed.offset < end:
            raise ProtocolError(f"table {placed.table.name} lies over the one before it")
        end = placed.offset + placed.size
        if tables.setdefault(placed.table.name, placed) is not placed:
            raise ProtocolError(f"two tables are called {placed.table.name}")
    if sum(placed.values for placed in tables.values()) > MAX_VALUES:
        raise ProtocolError("a segment with that many rows cannot be")
    return tables


def _placed(said: Any, room: int) -> Placed:
    """A table as its segment describes it; `room` is how many bytes of rows there are."""
    if not isinstance(said, dict):
        raise ProtocolError("a table's description is not an object")
    name = _text(said, "name", MAX_NAME)
    fields = _list(said, "fields", MAX_FIELDS)
    keys = tuple(_text({"key": key}, "key", MAX_NAME) for key in _list(said, "key", MAX_NAME))
    table = Table(
        name,
        keys,
        _text(said, "help", MAX_HELP),
        tuple(_field(field, word) for word, field in enumerate(fields)),
        _number(said, "banks", 2) == 2,
        _number(said, "text", MAX_TEXT_BYTES),
    )
    if len({field.name for field in table.fields}) != len(fields):
        raise ProtocolError(f"table {name} has two fields of one name")
    placed = Placed(
        table, _number(said, "rows", MAX_ROWS), _number(said, "offset", room), _number(said, "stride", MAX_SIZE)
    )
    if placed.offset % ALIGN or placed.stride % ALIGN or placed.stride < _stride(table):
        raise ProtocolError(f"table {name} is not aligned or its rows are too short")
    if placed.offset + placed.size > room:
        raise ProtocolError(f"table {name} reaches beyond the end of the segment")
    return placed


def _field(said: Any, word: int) -> Field:
    if not isinstance(said, dict):
        raise ProtocolError("a field's description is not an object")
    if _number(said, "word", MAX_FIELDS) != word:
        raise ProtocolError("a field is not at its place")
    kind = _text(said, "kind", MAX_NAME)
    states = tuple(_text({"state": state}, "state", MAX_NAME) for state in _list(said, "states", MAX_STATES, []))
    return Field(
        _text(said, "name", MAX_NAME),
        kind if kind in KINDS else "gauge",  # a kind of some later palatine
        _text(said, "unit", MAX_NAME),
        _text(said, "help", MAX_HELP),
        _number(said, "snmp", 1 << 31, 0),
        "sum" if said.get("merge") == "sum" else "last",
        said.get("signed") is True,
        states,
    )


def _number(said: Mapping[str, Any], key: str, highest: int, default: int | None = None) -> int:
    value = said.get(key, default)
    if type(value) is not int or not 0 <= value <= highest:
        raise ProtocolError(f"{key} must be a number from 0 to {highest}")
    return value


def _text(said: Mapping[str, Any], key: str, longest: int) -> str:
    value = said.get(key)
    if not isinstance(value, str) or len(value) > longest:
        raise ProtocolError(f"{key} must be a text of at most {longest} characters")
    return value


def _list(said: Mapping[str, Any], key: str, longest: int, default: list[Any] | None = None) -> list[Any]:
    value = said.get(key, default)
    if not isinstance(value, list) or len(value) > longest:
        raise ProtocolError(f"{key} must be a list of at most {longest}")
    return value
