import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import ber, snmp_v3
from palatine.codec.snmp_v3 import MessageV3, Scoped, Security
from palatine.errors import ProtocolError

NUMBERS = st.integers(0, snmp_v3.MAX_NUMBER)
PLAIN = snmp_v3.write_scoped(Scoped(b"engine", b"app", b"\xa0\x00"))
GOOD = MessageV3(1, 65507, 4, Security(b"engine", 1, 2, b"ops"), PLAIN)


@given(
    NUMBERS,
    st.integers(snmp_v3.LEAST_SIZE, snmp_v3.MAX_NUMBER),
    st.sampled_from([0, 1, 3, 4, 5, 7]),
    st.builds(
        Security,
        st.binary(max_size=32),
        NUMBERS,
        NUMBERS,
        st.binary(max_size=32),
        st.binary(max_size=48),
        st.binary(max_size=8),
    ),
    st.binary(max_size=300),
)
def test_what_is_written_is_read_again(
    message_id: int, max_size: int, flags: int, security: Security, data: bytes
) -> None:
    tag = ber.OCTET_STRING if flags & snmp_v3.PRIV else ber.SEQUENCE
    message = MessageV3(message_id, max_size, flags, security, ber.encode(tag, data))
    datagram, at = snmp_v3.write_message(message)
    assert snmp_v3.read_message(datagram) == message._replace(digest_at=at)
    assert datagram[at : at + len(security.digest)] == security.digest
    assert snmp_v3.is_v3(datagram)


@pytest.mark.parametrize(
    "message",
    [
        GOOD._replace(max_size=483),
        GOOD._replace(message_id=-1),
        GOOD._replace(message_id=2**31),
        GOOD._replace(data=b""),
        GOOD._replace(data=PLAIN + b"\0"),
        GOOD._replace(data=ber.encode(ber.OCTET_STRING, PLAIN)),
        GOOD._replace(flags=7),
        GOOD._replace(security=Security(b"e" * 33)),
        GOOD._replace(security=Security(boots=-1)),
        GOOD._replace(security=Security(time=2**31)),
        GOOD._replace(security=Security(user=b"u" * 33)),
        GOOD._replace(security=Security(digest=b"d" * 49)),
        GOOD._replace(security=Security(salt=b"s" * 9)),
    ],
)
def test_what_breaks_a_bound_is_refused(message: MessageV3) -> None:
    datagram, _ = snmp_v3.write_message(message)
    with pytest.raises(ProtocolError):
        snmp_v3.read_message(datagram)


def test_other_models_and_contradicting_flags_have_errors_of_their_own() -> None:
    datagram, _ = snmp_v3.write_message(GOOD)
    other = datagram.replace(b"\x04\x01\x04\x02\x01\x03", b"\x04\x01\x04\x02\x01\x02")
    with pytest.raises(snmp_v3.UnknownModelError):
        snmp_v3.read_message(other)
    with pytest.raises(snmp_v3.InvalidFlagsError):
        snmp_v3.read_message(snmp_v3.write_message(GOOD._replace(flags=2))[0])


def test_every_truncation_is_refused() -> None:
    datagram, _ = snmp_v3.write_message(GOOD)
    for end in range(len(datagram)):
        with pytest.raises(ProtocolError):
            snmp_v3.read_message(datagram[:end])
    with pytest.raises(ProtocolError):
        snmp_v3.read_message(datagram + b"\0")
    assert not snmp_v3.is_v3(b"")
    assert not snmp_v3.is_v3(bytes.fromhex("3003020101"))


def test_a_scoped_pdu_may_be_padded_and_not_lie() -> None:
    scoped = Scoped(b"engine", b"app", b"\xa0\x02\x05\x00")
    octets = snmp_v3.write_scoped(scoped)
    assert snmp_v3.read_scoped(octets) == snmp_v3.read_scoped(octets + b"\0\0\0") == scoped
    for bad in (b"", b"\x30\x00", octets[:-1], snmp_v3.write_scoped(Scoped(b"e", b"c" * 256, b"\xa0\x00"))):
        with pytest.raises(ProtocolError):
            snmp_v3.read_scoped(bad)
