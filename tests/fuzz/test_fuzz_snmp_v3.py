"""Whatever arrives as SNMPv3, with or without a right digest around it, silence or a well-formed reply comes of it.

Lengths lie at each level, tags and numbers are wrong, parts are missing, doubled or garbage, at every place of the
head, USM's parameters and the scoped PDU; half of it is sealed with a user's real keys, as a hostile user could.
PALATINE_FUZZ_SEED and PALATINE_FUZZ_DATAGRAMS choose others.
"""

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from palatine.codec import ber, snmp, snmp_v3, usm
from palatine.codec.snmp import PduType, Varbind
from palatine.codec.snmp_v3 import AUTH, PRIV, REPORTABLE, MessageV3, Scoped, Security
from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine_snmp_agent.access_policy import Grant
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.responder import MAX_REPLY
from palatine_snmp_agent.scoped_pdu import write_pdu
from palatine_snmp_agent.usm_gate import User, UsmGate
from running import Runner
from snmp_master import cell, cells_view, oid, stand_in

SEED = int(os.environ.get("PALATINE_FUZZ_SEED", "20251"))
DATAGRAMS = int(os.environ.get("PALATINE_FUZZ_DATAGRAMS", "3000"))
ENGINE_ID: Final = bytes.fromhex("8000895405aabbccdd")
KEYS: Final = usm.secrets("sha256", "maplesyrup", "aes128", "privpriv1").towards(ENGINE_ID)
BOTH: Final = AUTH | PRIV
LYING = [b"\x80", b"\xff", b"\x84\xff\xff\xff\xff", b"\x84\x7f\xff\xff\xff", b"\x85\0\0\0\0\1", b"\x7f", b"\0"]
NUMBERS = [b"", b"\x80", b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 9, b"\1" * 10, b"\0" * 300]


def pdu(*names: str, pdu_type: int = PduType.GET, numbers: tuple[int, int] = (0, 0)) -> bytes:
    varbinds = b"".join(snmp.write_varbind(Varbind(oid(name), snmp.NULL)) for name in names)
    return write_pdu(pdu_type, b"\x2a", *numbers, varbinds)


def sealed(data: bytes, flags: int = BOTH | REPORTABLE, boots: int = 1, seconds: int = 0) -> bytes:
    """A message of the user's around any data at all."""
    return usm.seal(MessageV3(77, 65507, flags, Security(ENGINE_ID, boots, seconds, b"ops"), data), KEYS, 1)


def elements(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Where each element of a datagram begins, where its content does, and where it ends, strings looked into."""
    while at < end:
        try:
            _, start, stop = ber.element(data, at, end)
        except ProtocolError:
            return
        yield at, start, stop
        if data[at] in {0x30, 0x04, 0xA0, 0xA5} and stop - start > 2:
            yield from elements(data, start, stop)
        at = stop


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """One thing wrong with it, somewhere."""
    at, start, stop = chance.choice(list(elements(data, 0, len(data))))
    return chance.choice(
        [
            lambda: data[: at + 1] + chance.choice(LYING) + data[start:],
            lambda: data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :],
            lambda: data[: chance.randrange(len(data) + 1)],
            lambda: data[:at] + data[stop:],
            lambda: data[:stop] + data[at:],
            lambda: data[:at] + ber.encode(data[at], chance.choice(NUMBERS)) + data[stop:],
            lambda: data[:start] + chance.randbytes(stop - start) + data[stop:],
            lambda: data[:at] + b"\x30\x84\0\0\xff\xff" * 300 + data[at:],
        ]
    )()


def hostile(chance: random.Random) -> Iterator[bytes]:
    """Datagrams without end."""
    plain = [
        snmp_v3.write_scoped(Scoped(ENGINE_ID, b"app", pdu("1.1"))),
        snmp_v3.write_scoped(Scoped(ENGINE_ID, b"", pdu("2", pdu_type=PduType.GET_BULK, numbers=(0, 2**31 - 1)))),
        snmp_v3.write_scoped(Scoped(ENGINE_ID, b"app", pdu(*["1.1"] * 60))),
    ]
    yield sealed(snmp_v3.write_scoped(Scoped(ENGINE_ID, b"app", pdu(*["1.1"] * 2000))))
    while True:
        data = chance.choice(plain)
        yield spoilt(sealed(data, chance.choice([0, AUTH, BOTH]) | REPORTABLE), chance)
        try:
            yield sealed(spoilt(data, chance), chance.choice([AUTH, BOTH]) | REPORTABLE)
        except ProtocolError:
            continue


def get() -> bytes:
    return sealed(snmp_v3.write_scoped(Scoped(ENGINE_ID, b"app", pdu("1.1"))))


def well_formed(reply: bytes) -> int:
    """The PDU type of a reply whose every part can be read."""
    assert len(reply) <= MAX_REPLY
    message = snmp_v3.read_message(reply)
    if message.flags & AUTH:
        assert usm.authentic(reply, message, KEYS)
    return snmp_v3.read_scoped(usm.opened(message, KEYS)).pdu[0]


def test_nothing_hurts_the_gate() -> None:
    clock: Callable[[], float] = lambda: 1000.0  # noqa: E731 - a clock that stands
    gate = UsmGate(Engine(ENGINE_ID, 1, clock), {b"ops": User(b"ops", KEYS, Grant())})
    view = cells_view(*[cell(f"1.{number}", lambda: snmp.counter64(7)) for number in range(1, 200)])
    desk = Desk({"app": view, "": view}.get, MAX_REPLY)
    chance = random.Random(SEED)
    began = time.process_time()
    counted: dict[str, int] = {}
    for number, datagram in zip(range(DATAGRAMS), hostile(chance), strict=False):
        verdict = gate.answer(datagram, desk)
        counted[verdict.counter] = counted.get(verdict.counter, 0) + 1
        if verdict.reply is not None:
            assert well_formed(verdict.reply) in {PduType.RESPONSE, PduType.REPORT}, datagram.hex()
        if number % 50 == 0:
            reply = gate.answer(get(), desk).reply
            assert reply is not None
            assert well_formed(reply) == PduType.RESPONSE
    print(f"{(time.process_time() - began) / DATAGRAMS * 1e6:.0f} us a datagram, with its making; {counted}")
    assert {"in_asn_parse_errs", "usm_wrong_digests", "usm_decryption_errors", "usm_unknown_engine_ids"} <= {*counted}


def test_every_truncation_of_a_right_message_is_nothing() -> None:
    gate = UsmGate(Engine(ENGINE_ID, 1), {b"ops": User(b"ops", KEYS, Grant())})
    desk = Desk({}.get, MAX_REPLY)
    datagram = get()
    for end in range(len(datagram)):
        assert gate.answer(datagram[:end], desk).counter == "in_asn_parse_errs"


@pytest.mark.interop
def test_nothing_hurts_the_agent(programs: Runner, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"engine-id: {ENGINE_ID.hex()}\nrate: {{per-second: 0}}\nusers:\n"
        "  - {name: ops, auth: sha256, auth-passphrase: maplesyrup, priv: aes128, priv-passphrase: privpriv1}\n"
    )
    with stand_in(programs.runtime) as master, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as manager:
        agent = programs.start("palatine-snmp-agent", "--config", str(config))
        agent.wait_for("instance.serving", 30)
        manager.connect(("127.0.0.1", master.port))
        manager.settimeout(10)
        chance = random.Random(SEED + 1)
        resident = 0
        for number, datagram in zip(range(DATAGRAMS // 2), hostile(chance), strict=False):
            manager.send(datagram)
            if number % 10 == 0:  # no more than the socket's buffer holds: what UDP loses is not the agent's fault
                answered(manager)
            if number == DATAGRAMS // 8:
                resident = rss(agent.pid)
        assert rss(agent.pid) - resident < 5 << 20
        with SegmentView.open(programs.runtime / "snmp-agent" / "seg") as view:
            counted = view.row("agent")
        assert counted["in_asn_parse_errs"] > 100
        assert counted["usm_wrong_digests"] > 10
        assert "Traceback" not in agent.output()


def answered(manager: socket.socket) -> None:
    """A right GET, among all that, gets its Response."""
    manager.send(get())
    while True:
        reply = manager.recv(65_535)
        message = snmp_v3.read_message(reply)
        if message.flags & BOTH == BOTH and well_formed(reply) == PduType.RESPONSE:
            scoped = snmp_v3.read_scoped(usm.opened(message, KEYS))
            if snmp.counter64(1) in scoped.pdu:
                return


def rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
