"""Whatever arrives on the agent's socket, nothing but silence or a well-formed reply comes of it, and it answers on.

The classes are those of the PROTOS c06 suite: lengths that lie at each level, forms of length that are forbidden,
truncation at every octet, wrong tags, integers and names of impossible size, nesting, communities and versions at the
edges, too many varbinds and repetitions, headers of v3. PALATINE_FUZZ_SEED and PALATINE_FUZZ_DATAGRAMS choose others;
with PALATINE_LONG there are 30,000, and how long an answer takes is judged.
"""

import functools
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from palatine.codec import ber, snmp
from palatine.codec.snmp import PduType
from palatine.counters import SegmentView
from palatine.discovery import InstanceRef
from palatine.errors import ProtocolError
from palatine_snmp_agent.host_views import HostViews
from palatine_snmp_agent.responder import MAX_REPLY, Responder
from palatine_snmp_agent.uwsgi_tree import instance_view
from running import Runner, free_port, wait_until
from snmp_master import oid, plant, request, shown, stand_in

SEED = int(os.environ.get("PALATINE_FUZZ_SEED", "20250"))
LONG = bool(os.environ.get("PALATINE_LONG"))
DATAGRAMS = int(os.environ.get("PALATINE_FUZZ_DATAGRAMS", "30000" if LONG else "6000"))
#: What a stranger may send is not what is looked for here: everything is looked at.
CONFIG = "rate: {{per-second: 0}}\nlisten: ['127.0.0.1:{port}']\ncommunities: [{{community: foo, contexts: ['']}}]\n"

#: An element: tag, content (octets or elements), and length octets in place of the right ones.
Element = tuple[int, Any, bytes | None]

LYING = [b"\x80", b"\xff", b"\x84\xff\xff\xff\xff", b"\x84\x7f\xff\xff\xff", b"\x85\0\0\0\0\1", b"\xfe" + b"\xff" * 126]
INTEGERS = [b"", b"\0" * 5, b"\x80" * 5, b"\xff" * 9, b"\1" * 10, b"\x7f" + b"\xff" * 7, b"\xff", b"\x80", b"\0" * 400]
NAMES = [
    b"",
    b"\x80",
    b"\xff" * 5,
    b"\x2b" + b"\1" * 128,
    b"\x2b" + b"\1" * 5000,
    oid("1")[:-1] + b"\x90\x80\x80\x80\0",
    oid("2") + b"\x8f\xff\xff\xff\x7f",
    b"\x2b\x80\1",
]
TAGS = [
    0x00,
    0x02,
    0x03,
    0x04,
    0x05,
    0x06,
    0x1F,
    0x24,
    0x30,
    0x31,
    0x40,
    0x7F,
    0x80,
    0x9F,
    0xA0,
    0xA4,
    0xA9,
    0xBF,
    0xFF,
]
VERSIONS = [-1, 2, 3, 4, 127, 2**31, 2**62]
BIG = 2**31 - 1


def octets(element: Element) -> bytes:
    tag, inside, length = element
    data = inside if isinstance(inside, bytes) else b"".join(map(octets, inside))
    return bytes((tag,)) + (ber.encode_length(len(data)) if length is None else length) + data


def message(rng: random.Random) -> Element:
    """A well-formed message as elements."""
    pdu = rng.choice([PduType.GET, PduType.GET_NEXT, PduType.GET_BULK, PduType.SET, rng.choice(list(PduType))])
    names = [oid(rng.choice(["", "1.1", "1.31", "2.40", "2.2", "3", "2.100.0"])) for _ in range(rng.randint(0, 4))]
    varbinds = [(0x30, [(6, name, None), (5, b"", None)], None) for name in names]
    numbers = [ber.signed_octets(rng.choice([0, 0, 1, 10, BIG, -1])) for _ in range(2)]
    request_id = ber.signed_octets(rng.randint(-(2**31), BIG))
    inside = [(2, request_id, None), (2, numbers[0], None), (2, numbers[1], None), (0x30, varbinds, None)]
    return (0x30, [(2, bytes((rng.choice([0, 1, 1]),)), None), (4, b"foo", None), (int(pdu), inside, None)], None)


def places(element: Element, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    yield path
    if isinstance(element[1], list):
        for index, inner in enumerate(element[1]):
            yield from places(inner, (*path, index))


def replaced(element: Element, path: tuple[int, ...], change: Callable[[Element], list[Element]]) -> list[Element]:
    """The element with what is at `path` replaced by what `change` makes of it: none, one or several."""
    if not path:
        return change(element)
    tag, inside, length = element
    index, *rest = path
    inside = [*inside[:index], *replaced(inside[index], tuple(rest), change), *inside[index + 1 :]]
    return [(tag, inside, length)]


def changed(rng: random.Random, change: Callable[[Element], list[Element]]) -> bytes:
    whole = message(rng)
    return b"".join(map(octets, replaced(whole, rng.choice(list(places(whole))), change)))


def lying_length(rng: random.Random) -> bytes:
    def lie(element: Element) -> list[Element]:
        true = len(octets(element))
        off = bytes((max(0, min(127, true - 2 + rng.choice([-3, -2, -1, 1, 2, 40]))),))
        return [(element[0], element[1], rng.choice([off, *LYING]))]

    return changed(rng, lie)


def wrong_tag(rng: random.Random) -> bytes:
    return changed(rng, lambda element: [(rng.choice(TAGS), element[1], element[2])])


def wrong_content(rng: random.Random) -> bytes:
    odd = rng.choice([*INTEGERS, *NAMES, rng.randbytes(rng.randint(0, 300))])
    return changed(rng, lambda element: [(element[0], odd, element[2])])


def missing_or_doubled(rng: random.Random) -> bytes:
    return changed(rng, lambda element: [element] * rng.choice([0, 2, 3, 300]))


@functools.cache
def nest(depth: int) -> bytes:
    heads, inside = [], 2
    for level in range(depth):
        heads.append(bytes((0xA0 if level % 3 == 0 else 0x30,)) + ber.encode_length(inside))
        inside += len(heads[-1])
    return b"".join(reversed(heads)) + b"\x05\x00"


def nested(rng: random.Random) -> bytes:
    inside = nest(rng.choice([5, 100, 5000]))
    return changed(rng, lambda element: [(element[0], inside, None)]) if rng.random() < 0.8 else inside


@functools.cache
def odd_requests() -> list[bytes]:
    return [
        request(PduType.GET, "1.1", community=b""),
        request(PduType.GET, "1.1", community=b"f" * 65_000),
        *(request(PduType.GET, "1.1", version=version) for version in VERSIONS),
        *(request(PduType.GET, *["1.1"] * count) for count in (500, 2000, 3000)),
        *(request(PduType.GET_NEXT, *["2"] * count, version=version) for count in (80, 2000) for version in (0, 1)),
        *(request(PduType.GET_BULK, *["1"] * count, numbers=(0, BIG)) for count in (1, 2, 80)),
        request(PduType.GET_BULK, "1", "2", numbers=(BIG, BIG)),
        request(PduType.GET_BULK, numbers=(BIG, BIG)),
        request(PduType.GET_BULK, "9", numbers=(-(2**31), BIG)),
        request(PduType.SET, "2.40", value=snmp.octet_string(b"x" * 60_000)),
    ]


def edges(rng: random.Random) -> bytes:
    v3 = bytes.fromhex("303e0201033011020401020304020300ffe3040104020103") + rng.randbytes(40)
    return rng.choice([*odd_requests(), v3])


def damaged(rng: random.Random) -> bytes:
    data = bytearray(octets(message(rng)))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def truncated(rng: random.Random) -> bytes:
    data = octets(message(rng))
    return data[: rng.randrange(len(data))]


def noise(rng: random.Random) -> bytes:
    return rng.choice([b"", b"\x30", b"\x30\x82"]) + rng.randbytes(rng.choice([0, 1, 20, 119, 1500, 60_000]))


CLASSES = (lying_length, wrong_tag, wrong_content, missing_or_doubled, nested, edges, damaged, truncated, noise)


def hostile(seed: int) -> Iterator[bytes]:
    """Datagrams without end, each class in turn; the longest that UDP carries."""
    rng = random.Random(seed)
    while True:
        for make in CLASSES:
            yield make(rng)[:65_507]


def test_no_datagram_makes_the_codec_or_the_responder_raise(tmp_path: Path) -> None:
    directory = tmp_path / "i" / "app"
    directory.mkdir(parents=True)
    segment = plant(directory / "seg")
    segment.publish()
    good = request(PduType.GET, "1.1", "2.40", "1000.2.1.51.3.97.112.112")
    slowest = 0.0
    with SegmentView.open(segment.path) as reader, closing(HostViews(tmp_path)) as views:
        views.appear(InstanceRef("app", directory, os.getuid()))
        responders = [Responder(view, b"foo") for view in (instance_view(reader), views.host)]
        expected = [responder.answer(good) for responder in responders]
        for number, datagram in enumerate(islice(hostile(SEED), DATAGRAMS)):
            try:
                found = snmp.read_message(datagram)
            except ProtocolError:
                pass
            else:
                assert snmp.read_message(snmp.write_message(found)) == found
            began = time.thread_time()
            verdict = responders[number & 1].answer(datagram)
            slowest = max(slowest, time.thread_time() - began)
            if verdict.reply is not None:
                assert len(verdict.reply) <= MAX_REPLY
                snmp.read_message(verdict.reply)
            if number % 25 == 0:
                assert [responder.answer(good) for responder in responders] == expected
    segment.close(unlink=True)
    print(f"seed {SEED}: {DATAGRAMS} datagrams, the slowest took {slowest * 1000:.1f} ms")
    assert not LONG or slowest < 0.1  # a collection of garbage included


def test_every_kind_of_request_cut_at_any_octet_gets_silence() -> None:
    responder = Responder(instance_view(_Nothing()), b"foo")
    for pdu in (PduType.GET, PduType.GET_NEXT, PduType.GET_BULK, PduType.SET):
        whole = request(pdu, "1.1", "2.40")
        assert responder.answer(whole).reply is not None
        for length in range(len(whole)):
            assert responder.answer(whole[:length]).reply is None


class _Nothing:
    """A segment without rows."""

    def placed(self, table: str) -> Any:
        from palatine.codec.segment import Placed
        from palatine.schema import INSTANCE, by_name

        return Placed(by_name(INSTANCE)[table], 0, 0, 64)

    def copier(self, _table: str) -> Callable[[], bytes]:
        return bytes

    def row_labels(self, _table: str, _row: int = 0) -> dict[str, str]:
        return {}


#: The requests of an instance in its own view, and in the host's.
REQUESTS = ("1.1", "1000.2.1.51.3.97.112.112")


def resident(pid: int) -> int:
    """Resident memory in octets."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("kind", ["snmp", "udp", "host"])
def test_the_running_agent_answers_on_and_does_not_grow(programs: Runner, tmp_path: Path, kind: str) -> None:
    config, port = tmp_path / "agent.yaml", free_port(socket.SOCK_DGRAM)
    config.write_text(CONFIG.format(port=port))
    with stand_in(programs.runtime, kind="snmp" if kind == "host" else kind, snmp=True) as master:
        agent = programs.start("palatine-snmp-agent", "--config", str(config))
        wait_until(lambda: "instance.serving" in agent.output(), "the agent serves")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude, socket.socket(type=socket.SOCK_DGRAM) as manager:
            for sock in (rude, manager):
                sock.connect(("127.0.0.1", port if kind == "host" else master.port))
            manager.settimeout(5)
            rude.setblocking(False)
            source = hostile(SEED + 1)
            name = REQUESTS[kind == "host"]
            _feed(rude, manager, source, 500, name)
            before = resident(agent.pid)
            waits = sorted(_feed(rude, manager, source, DATAGRAMS if LONG else DATAGRAMS // 4, name))
            grown = resident(agent.pid) - before
        assert agent.process.poll() is None
        assert "Traceback" not in agent.output()
    print(
        f"seed {SEED + 1}, {kind}: median wait {waits[len(waits) // 2] * 1000:.2f} ms, worst {waits[-1] * 1000:.1f} ms,"
        f" grown by {grown / 1024:.0f} KiB"
    )
    assert grown < 5 << 20
    assert not LONG or waits[len(waits) * 99 // 100] < 0.05


def settled(port: int) -> None:
    """Return when the agent has read what was sent to a port: the kernel drops what does not fit into its queue."""

    def waiting() -> int:
        lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
        return sum(int(words[4].partition(":")[2], 16) for words in lines if words[1].endswith(f":{port:04X}"))

    wait_until(lambda: waiting() < 65_536, "the agent reads", 30)


def _feed(rude: socket.socket, manager: socket.socket, source: Iterator[bytes], count: int, name: str) -> list[float]:
    """Send hostile datagrams, and after every 20 of them a question that must be answered; the seconds it took."""
    waits = []
    for number, datagram in enumerate(islice(source, count)):
        try:
            rude.send(datagram)
            while rude.recv(65_535):
                pass
        except BlockingIOError:
            pass
        if number % 20 == 0:
            question = request(PduType.GET, name, request_id=number)
            settled(manager.getpeername()[1])
            began = time.perf_counter()
            manager.send(question)
            reply = manager.recv(65_535)
            waits.append(time.perf_counter() - began)
            (shown_name, value), *others = shown(reply)[2]
            assert (shown_name, snmp.read_value(value), others) == (name, (snmp.COUNTER64, 1), [])
            assert snmp.read_message(reply).request_id == ber.signed_octets(number)
    return waits
