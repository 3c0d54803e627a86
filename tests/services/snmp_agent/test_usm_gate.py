"""USM and VACM from inside: every check of RFC 3414 section 3.2, and what a manager is told of it."""

from typing import Any

import pytest

from palatine.codec import ber, snmp, snmp_v3, usm
from palatine.codec.snmp import PduType, Varbind
from palatine.codec.snmp_v3 import AUTH, PRIV, REPORTABLE, MessageV3, Scoped, Security
from palatine_snmp_agent.access_policy import Families, Grant
from palatine_snmp_agent.desk import Desk
from palatine_snmp_agent.engine import Engine
from palatine_snmp_agent.responder import Verdict
from palatine_snmp_agent.scoped_pdu import write_pdu
from palatine_snmp_agent.usm_gate import MOST_WRONG_PROOFS, User, UsmGate
from snmp_master import cell, cells_view, oid

ENGINE_ID = bytes.fromhex("8000895405aabbccdd")
BOTH = AUTH | PRIV
SECRETS = usm.secrets("sha256", "maplesyrup", "aes128", "privpriv1")
KEYS = SECRETS.towards(ENGINE_ID)
OTHER = usm.secrets("sha256", "maplesyrux", "aes128", "privpriv2").towards(ENGINE_ID)
USERS = {
    b"ops": User(b"ops", KEYS, Grant(level=BOTH)),
    b"any": User(b"any", usm.Keys(), Grant(Families((ber.oid_arcs(oid("1")),)), contexts=("app",))),
}
SEVEN = snmp.counter64(7)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> UsmGate:
    return UsmGate(Engine(ENGINE_ID, 4, clock), USERS)


@pytest.fixture
def desk() -> Desk:
    app = cells_view(cell("1.1", lambda: SEVEN), cell("2.40", lambda: snmp.gauge32(1)))
    many = cells_view(*[cell(f"2.{number}", lambda: SEVEN) for number in range(1, 100)])
    return Desk({"app": app, "many": many, "": app}.get, 1472)


def pdu(pdu_type: int, *names: str, numbers: tuple[int, int] = (0, 0)) -> bytes:
    varbinds = b"".join(snmp.write_varbind(Varbind(oid(name), snmp.NULL)) for name in names)
    return write_pdu(pdu_type, b"\x2a", *numbers, varbinds)


def asked(
    pdu: bytes = pdu(PduType.GET, "1.1"),
    *,
    flags: int = BOTH | REPORTABLE,
    keys: usm.Keys = KEYS,
    user: bytes = b"ops",
    engine: bytes = ENGINE_ID,
    boots: int = 4,
    time: int = 0,
    context: bytes = b"app",
    inner: bytes = ENGINE_ID,
    size: int = 65507,
) -> bytes:
    data = snmp_v3.write_scoped(Scoped(inner, context, pdu))
    return usm.seal(MessageV3(77, size, flags, Security(engine, boots, time, user), data), keys, 9)


def opened(verdict: Verdict, keys: usm.Keys = KEYS) -> tuple[int, int, Any]:
    """Flags, PDU type and body of a reply whose digest was checked."""
    assert verdict.reply is not None
    message = snmp_v3.read_message(verdict.reply)
    assert message.message_id == 77
    if message.flags & AUTH:
        assert usm.authentic(verdict.reply, message, keys)
        assert (message.security.engine_id, message.security.boots) == (ENGINE_ID, 4)
    scoped = snmp_v3.read_scoped(usm.opened(message, keys))
    tag, at, end = ber.element(scoped.pdu, 0, len(scoped.pdu))
    _, at = ber.integer(scoped.pdu, at, end)
    return message.flags, tag, snmp.read_body(scoped.pdu[at:])


def test_a_user_reads_at_his_level(gate: UsmGate, desk: Desk) -> None:
    flags, tag, body = opened(gate.answer(asked(), desk))
    assert (flags, tag, body.varbinds) == (BOTH, PduType.RESPONSE, (Varbind(oid("1.1"), SEVEN),))
    verdict = gate.answer(asked(flags=0, user=b"any", keys=usm.Keys(), boots=0), desk)
    assert opened(verdict)[:2] == (0, PduType.RESPONSE)
    assert verdict.counter == "get_requests"


REPORTED = [
    (asked(engine=b"", user=b"", flags=REPORTABLE, keys=usm.Keys()), snmp_v3.UNKNOWN_ENGINE, 0),
    (asked(engine=b"12345"), snmp_v3.UNKNOWN_ENGINE, 0),
    (asked(user=b"nobody"), snmp_v3.UNKNOWN_USER, 0),
    (asked(user=b"any"), snmp_v3.UNSUPPORTED_LEVEL, 0),
    (asked(keys=OTHER), snmp_v3.WRONG_DIGEST, 0),
    (asked(time=151), snmp_v3.NOT_IN_TIME_WINDOW, AUTH),
    (asked(boots=3), snmp_v3.NOT_IN_TIME_WINDOW, AUTH),
    (asked(boots=5), snmp_v3.NOT_IN_TIME_WINDOW, AUTH),
    (asked(keys=KEYS._replace(cipher=OTHER.cipher)), snmp_v3.DECRYPTION_ERROR, 0),
    (asked(context=b"nope"), snmp_v3.UNKNOWN_CONTEXT, BOTH),
    (asked(inner=b"12345"), snmp_v3.UNKNOWN_PDU_HANDLER, BOTH),
]


@pytest.mark.parametrize(("datagram", "counter", "level"), REPORTED)
def test_what_fails_is_counted_and_told(gate: UsmGate, desk: Desk, datagram: bytes, counter: bytes, level: int) -> None:
    for count in (1, 2):
        flags, tag, body = opened(gate.answer(datagram, desk))
        assert (flags, tag) == (level, PduType.REPORT)
        assert body.varbinds == (Varbind(counter, snmp.counter32(count)),)


def test_who_asks_for_no_report_gets_none(gate: UsmGate, desk: Desk) -> None:
    assert gate.answer(asked(flags=BOTH, keys=OTHER), desk) == Verdict("usm_wrong_digests")
    assert gate.answer(asked(flags=BOTH, time=151), desk) == Verdict("usm_not_in_time_windows")


def test_a_replay_is_answered_within_the_window_and_not_after_it(gate: UsmGate, desk: Desk, clock: Clock) -> None:
    datagram = asked(time=0)
    assert opened(gate.answer(datagram, desk))[1] == PduType.RESPONSE
    clock.now += 150
    assert opened(gate.answer(datagram, desk))[1] == PduType.RESPONSE
    clock.now += 1
    assert opened(gate.answer(datagram, desk))[1] == PduType.REPORT


@pytest.mark.parametrize("digest", [b"", bytes(24), b"ops" * 8])
def test_a_message_without_a_digest_is_nobodys(gate: UsmGate, desk: Desk, digest: bytes) -> None:
    """pysnmp 7.1.27 let it in: lextudio/pysnmp issue 249."""
    data = snmp_v3.write_scoped(Scoped(ENGINE_ID, b"app", pdu(PduType.GET, "1.1")))
    security = Security(ENGINE_ID, 4, 0, b"ops", digest)
    datagram, _ = snmp_v3.write_message(MessageV3(77, 65507, AUTH | REPORTABLE, security, data))
    assert gate.answer(datagram, desk).counter == "usm_wrong_digests"


def test_a_grant_is_kept_to(gate: UsmGate, desk: Desk) -> None:
    def status(**words: Any) -> tuple[int, list[bytes]]:
        _, _, body = opened(gate.answer(asked(**words), desk))
        return body.error_status, [value for _, value in body.varbinds]

    refused = (16, [snmp.NULL])
    plain = {"user": b"any", "flags": REPORTABLE, "keys": usm.Keys()}
    assert status(flags=AUTH | REPORTABLE) == refused
    assert status(**plain, context=b"") == refused
    assert status(**plain, context=b"many") == refused
    assert status(**plain, pdu=pdu(PduType.GET, "1.1", "2.40")) == (0, [SEVEN, snmp.NO_SUCH_OBJECT])
    assert status(**plain, pdu=pdu(PduType.GET_NEXT, "1.1")) == (0, [snmp.END_OF_MIB_VIEW])


@pytest.mark.parametrize(
    ("user", "flags", "keys"), [(b"ops", BOTH, KEYS), (b"ops", AUTH, KEYS), (b"any", 0, usm.Keys())]
)
def test_nobody_may_write_anything(gate: UsmGate, desk: Desk, user: bytes, flags: int, keys: usm.Keys) -> None:
    """pysnmp's VACM returns notInView instead of raising it, and lets a read-only user write."""
    value = snmp.gauge32(5)
    for name in ("1.1", "2.40", "2.41", "9"):
        octets = write_pdu(PduType.SET, b"\x2a", 0, 0, snmp.write_varbind(Varbind(oid(name), value)))
        _, tag, body = opened(gate.answer(asked(octets, user=user, flags=flags | REPORTABLE, keys=keys), desk))
        assert (tag, body.varbinds) == (PduType.RESPONSE, (Varbind(oid(name), value),))
        assert body.error_status in {16, 17}


@pytest.mark.parametrize("size", [484, 600, 1000, 1472, 65507])
def test_a_reply_fits_what_the_manager_takes(gate: UsmGate, desk: Desk, size: int) -> None:
    verdict = gate.answer(asked(pdu(PduType.GET_BULK, "2", numbers=(0, 99)), context=b"many", size=size), desk)
    assert verdict.reply is not None
    assert len(verdict.reply) <= min(size, 1472)
    assert len(opened(verdict)[2].varbinds) >= (size - 260) // 40 if size < 1472 else True
    whole = gate.answer(asked(pdu(PduType.GET, *[f"2.{n}" for n in range(1, 60)]), context=b"many", size=size), desk)
    assert opened(whole)[2].error_status == 1
    assert len(whole.reply or b"") <= size


def test_an_apps_own_socket_needs_no_context_and_shows_no_other(gate: UsmGate) -> None:
    view = cells_view(cell("1.1", lambda: SEVEN))
    own = Desk({"app": view}.get, 1472, own="app")
    plain: dict[str, Any] = {"user": b"any", "flags": REPORTABLE, "keys": usm.Keys()}
    for context in (b"", b"app"):
        assert opened(gate.answer(asked(**plain, context=context), own))[2].error_status == 0
    assert opened(gate.answer(asked(context=b"many"), own))[1] == PduType.REPORT


def test_pdus_that_ask_nothing_get_nothing(gate: UsmGate, desk: Desk) -> None:
    for tag in (PduType.RESPONSE, PduType.REPORT, PduType.TRAP, PduType.INFORM):
        assert gate.answer(asked(pdu(tag, "1.1")), desk) == Verdict("unknown_pdus")
    for octets in (b"", b"\xa0\x00", b"\xa0\x03\x02\x01\x01", b"\x05\x00"):
        assert gate.answer(asked(octets, flags=AUTH), desk).reply is None
    assert gate.answer(b"\x30\x03\x02\x01\x03", desk).counter == "in_asn_parse_errs"
    assert gate.answer(asked(flags=PRIV, keys=KEYS), desk).counter == "invalid_msgs"


def test_a_digest_proves_whose_a_message_is_and_wrong_ones_are_looked_at_so_often(gate: UsmGate, clock: Clock) -> None:
    right, wrong = asked(), asked(keys=OTHER)
    assert gate.proves(right)
    for stranger in (
        wrong,
        asked(user=b"any", flags=0),
        asked(user=b"nobody"),
        asked(engine=b"12345"),
        b"",
        right[:-1],
    ):
        assert not gate.proves(stranger)
    for _ in range(MOST_WRONG_PROOFS):
        gate.proves(wrong)
    assert not gate.proves(right)
    clock.now += 1
    assert gate.proves(right)
