import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import ber, snmp
from palatine.codec.snmp import Body, ErrorStatus, Message, PduType, Varbind, Version
from palatine.errors import ProtocolError

FOO = b"foo"
RID = bytes.fromhex("01020304")


def name(suffix: str) -> bytes:
    return ber.parse_oid(f"1.3.6.1.4.1.35156.17.{suffix}")


# Without the octet that says it is not negative, which uWSGI leaves out.
UWSGIS_LARGEST = bytes.fromhex("4608ffffffffffffffff")
# Datagrams seen on the wire between a manager and uWSGI's own agent: requests, and its right replies.
CAPTURED = [
    (
        "30290201010403666f6fa01f0204010203040201000201003011300f060b2b060104018292541101010500",
        Message(1, FOO, PduType.GET, RID, Body(0, 0, (Varbind(name("1.1"), snmp.NULL),))),
    ),
    (
        "30310201010403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
        Message(1, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("1.1"), snmp.counter64(1)),))),
    ),
    (
        "30290201010403666f6fa21f0204010203040201000201003011300f060b2b060104018292541101020500",
        Message(1, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("1.2"), snmp.NULL),))),
    ),
    (
        "302d0201010403666f6fa22302040102030402010002010030153013060b2b0601040182925411022842040000004d",
        Message(1, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("2.40"), snmp.gauge32(77)),))),
    ),
    (
        "30310201010403666f6fa22702040102030402010002010030193017060b2b060104018292541102024608ffffffffffffffff",
        Message(1, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("2.2"), UWSGIS_LARGEST),))),
    ),
    (
        (
            "303a0201010403666f6fa0300204010203040201000201003022300f060b2b060104018292541101010500"
            "300f060b2b060104018292541102280500"
        ),
        Message(
            1,
            FOO,
            PduType.GET,
            RID,
            Body(0, 0, (Varbind(name("1.1"), snmp.NULL), Varbind(name("2.40"), snmp.NULL))),
        ),
    ),
    (
        "30310201000403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
        Message(0, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("1.1"), snmp.counter64(1)),))),
    ),
    (
        "30310201020403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
        Message(2, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("1.1"), snmp.counter64(1)),))),
    ),
    (
        "302a0201010403666f6fa22002010502010002010030153013060b2b0601040182925411022842040000004d",
        Message(1, FOO, PduType.RESPONSE, b"\5", Body(0, 0, (Varbind(name("2.40"), snmp.gauge32(77)),))),
    ),
    (
        "302a0201010403666f6fa020020500800000000201000201003011300f060b2b060104018292541102280500",
        Message(1, FOO, PduType.GET, b"\0\x80\0\0\0", Body(0, 0, (Varbind(name("2.40"), snmp.NULL),))),
    ),
    (
        "302a0201010403666f6fa02002040102030402010002010030123010060c2b06010401829254110101000500",
        Message(1, FOO, PduType.GET, RID, Body(0, 0, (Varbind(name("1.1.0"), snmp.NULL),))),
    ),
    (
        "30340201010403666f6fa22a020401020304020100020100301c301a060e2b0601040182925411030102000146080000000000000001",
        Message(1, FOO, PduType.RESPONSE, RID, Body(0, 0, (Varbind(name("3.1.2.0.1"), snmp.counter64(1)),))),
    ),
    (
        "30290201010403666f6fa11f0204010203040201000201003011300f060b2b060104018292541101010500",
        Message(1, FOO, PduType.GET_NEXT, RID, Body(0, 0, (Varbind(name("1.1"), snmp.NULL),))),
    ),
    (
        "302a0201010403666f6fa02002040102030402010002010030123010060b2b06010401829254110101020100",
        Message(1, FOO, PduType.GET, RID, Body(0, 0, (Varbind(name("1.1"), b"\2\1\0"),))),
    ),
]

VALUES = [
    ("020100", ber.INTEGER, 0),
    ("0201ff", ber.INTEGER, -1),
    ("020480000000", ber.INTEGER, -(2**31)),
    ("0400", ber.OCTET_STRING, b""),
    ("0403666f6f", ber.OCTET_STRING, b"foo"),
    ("06082b06010401829254", ber.OBJECT_IDENTIFIER, bytes.fromhex("2b06010401829254")),
    ("40047f000001", snmp.IP_ADDRESS, bytes((127, 0, 0, 1))),
    ("410400000007", snmp.COUNTER32, 7),
    ("4104ffffffff", snmp.COUNTER32, 2**32 - 1),
    ("42040000004d", snmp.GAUGE32, 77),
    ("430100", snmp.TIME_TICKS, 0),
    ("440178", snmp.OPAQUE, b"x"),
    ("46080000000000000001", snmp.COUNTER64, 1),
    ("4608ffffffffffffffff", snmp.COUNTER64, 2**64 - 1),
    ("460900ffffffffffffffff", snmp.COUNTER64, 2**64 - 1),
    ("0500", ber.NULL, None),
    ("8000", 0x80, None),
    ("8100", 0x81, None),
    ("8200", 0x82, None),
]


@pytest.mark.parametrize(("octets", "message"), CAPTURED)
def test_captured_datagrams_both_ways(octets: str, message: Message) -> None:
    assert snmp.read_message(bytes.fromhex(octets)) == message
    assert snmp.write_message(message).hex() == octets


def test_getbulk_numbers_have_names() -> None:
    body = Body(1, 2**31 - 1, (Varbind(name("1"), snmp.NULL),))
    message = Message(Version.V2C, FOO, PduType.GET_BULK, b"\x80", body)
    found = snmp.read_message(snmp.write_message(message))
    assert found == message
    assert (found.body.non_repeaters, found.body.max_repetitions) == (1, 2**31 - 1)


@pytest.mark.parametrize(("octets", "tag", "value"), VALUES)
def test_values_are_read(octets: str, tag: int, value: int | bytes | None) -> None:
    assert snmp.read_value(bytes.fromhex(octets)) == (tag, value)


def test_values_are_written_with_uwsgis_octets_but_never_look_negative() -> None:
    assert snmp.counter32(2**32 + 7).hex() == "410400000007"
    assert snmp.counter32(2**31 - 1).hex() == "41047fffffff"
    assert snmp.gauge32(-1).hex() == "420500ffffffff"
    assert snmp.counter64(2**63).hex() == "4609008000000000000000"
    assert snmp.counter64(2**64 + 1).hex() == "46080000000000000001"
    assert snmp.integer32(-1).hex() == "0201ff"
    assert snmp.octet_string(b"foo").hex() == "0403666f6f"
    assert snmp.object_identifier(name("1")).hex() == "060a2b060104018292541101"


def test_an_integer_above_32_bits_is_no_value() -> None:
    with pytest.raises(ProtocolError):
        snmp.integer32(2**31)


BROKEN_VALUES = {
    "nothing": "",
    "tag only": "02",
    "integer of no octets": "0200",
    "integer of 6 octets": "0206010203040506",
    "NULL with content": "050100",
    "exception with content": "800100",
    "address of 3 octets": "40037f0000",
    "counter of no octets": "4600",
    "counter32 of 6 octets": "4106010203040506",
    "name of no octets": "0600",
    "name that ends inside an arc": "060180",
    "constructed": "3000",
    "multi-octet tag": "7f00",
    "octets behind": "02010000",
}


@pytest.mark.parametrize("octets", BROKEN_VALUES.values(), ids=BROKEN_VALUES)
def test_a_broken_value_is_refused(octets: str) -> None:
    with pytest.raises(ProtocolError):
        snmp.read_value(bytes.fromhex(octets))
    varbind = ber.encode(0x30, ber.encode(0x06, name("1")) + bytes.fromhex(octets))
    with pytest.raises(ProtocolError):
        snmp.read_message(datagram(varbinds=varbind))


def datagram(
    version: str = "020101",
    community: str = "0403666f6f",
    tag: int = PduType.GET,
    request_id: str = "020101",
    numbers: str = "020100020100",
    varbinds: bytes = b"",
    behind: tuple[str, str, str] = ("", "", ""),
) -> bytes:
    """A message from its parts; `behind` adds octets after the varbind list, the PDU and the message."""
    body = bytes.fromhex(request_id + numbers) + ber.encode(0x30, varbinds) + bytes.fromhex(behind[0])
    head = bytes.fromhex(version + community)
    message = ber.encode(0x30, head + ber.encode(tag, body) + bytes.fromhex(behind[1]))
    return message + bytes.fromhex(behind[2])


def test_the_parts_make_a_message() -> None:
    assert snmp.read_message(datagram()) == Message(1, FOO, PduType.GET, b"\1", Body(0, 0, ()))


BROKEN = {
    "octets after the list": datagram(behind=("00", "", "")),
    "octets after the pdu": datagram(behind=("", "00", "")),
    "octets after the message": datagram(behind=("", "", "00")),
    "version of no octets": datagram(version="0200"),
    "version no integer": datagram(version="040101"),
    "community no octets": datagram(community="020101"),
    "community too long": datagram(community="04820100" + "61" * 256),
    "v1 trap": datagram(tag=PduType.TRAP_V1),
    "pdu tag below": datagram(tag=0x9F - 0x10),
    "pdu tag above": datagram(tag=0xA9),
    "request-id of no octets": datagram(request_id="0200"),
    "request-id of six octets": datagram(request_id="0206010203040506"),
    "request-id no integer": datagram(request_id="040101"),
    "status of no octets": datagram(numbers="0200020100"),
    "status above 32 bits": datagram(numbers="02050080000000020100"),
    "index above 32 bits": datagram(numbers="02010002050080000000"),
    "varbind no sequence": datagram(varbinds=b"\x31\x00"),
    "varbind empty": datagram(varbinds=b"\x30\x00"),
    "varbind without a value": datagram(varbinds=bytes.fromhex("300306012b")),
    "name no name": datagram(varbinds=bytes.fromhex("300504012b0500")),
    "name of 129 arcs": datagram(varbinds=ber.encode(0x30, ber.encode(6, b"\1" * 128) + snmp.NULL)),
    "too many varbinds": datagram(varbinds=bytes.fromhex("300506012b0500") * (snmp.MAX_VARBINDS + 1)),
    "above what udp carries": datagram(community="0482ffff" + "61" * 65_535),
}


@pytest.mark.parametrize("octets", BROKEN.values(), ids=BROKEN)
def test_a_broken_message_is_refused(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        snmp.read_message(octets)


@pytest.mark.parametrize("version", ["020103", "0201ff", "020104", "02047fffffff", "0209008000000000000000"])
def test_another_version_is_told_from_a_broken_message(version: str) -> None:
    with pytest.raises(snmp.VersionError):
        snmp.open_envelope(datagram(version=version))


@pytest.mark.parametrize("octets", [octets for octets, _ in CAPTURED])
def test_a_datagram_cut_at_any_octet_is_refused(octets: str) -> None:
    whole = bytes.fromhex(octets)
    for length in range(len(whole)):
        with pytest.raises(ProtocolError):
            snmp.read_message(whole[:length])


def test_as_many_varbinds_as_allowed_are_read() -> None:
    message = snmp.read_message(datagram(varbinds=bytes.fromhex("300506012b0500") * snmp.MAX_VARBINDS))
    assert len(message.body.varbinds) == snmp.MAX_VARBINDS


def test_5000_nested_sequences_are_not_descended_into() -> None:
    nest = b""
    for _ in range(5000):
        nest = ber.encode(0x30, nest)
    for octets in (nest, datagram(varbinds=nest), datagram(varbinds=ber.encode(0x30, b"\6\1\1" + nest))):
        with pytest.raises(ProtocolError):
            snmp.read_message(octets)


names = st.binary(min_size=1, max_size=20).map(lambda raw: ber.oid_octets((1, 3, *raw)))
numbers = st.integers(-(2**31), 2**31 - 1)
values = st.one_of(
    st.sampled_from([snmp.NULL, snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_INSTANCE, snmp.END_OF_MIB_VIEW]),
    st.integers(0, 2**64 - 1).map(snmp.counter64),
    st.integers(0, 2**32 - 1).map(snmp.counter32),
    st.integers(0, 2**32 - 1).map(snmp.gauge32),
    numbers.map(snmp.integer32),
    st.binary(max_size=300).map(snmp.octet_string),
    names.map(snmp.object_identifier),
)
messages = st.builds(
    Message,
    st.sampled_from([0, 1, 2]),
    st.binary(max_size=snmp.MAX_COMMUNITY),
    st.sampled_from(sorted(set(PduType) - {PduType.TRAP_V1})),
    numbers.map(ber.signed_octets),
    st.builds(Body, numbers, numbers, st.lists(st.builds(Varbind, names, values), max_size=12).map(tuple)),
)


@given(messages)
def test_every_message_survives_the_round_trip(message: Message) -> None:
    assert snmp.read_message(snmp.write_message(message)) == message


@given(st.binary(max_size=200))
def test_any_octets_give_a_message_or_a_protocol_error(octets: bytes) -> None:
    try:
        snmp.read_message(octets)
    except ProtocolError:
        return


def test_error_statuses_are_the_standards() -> None:
    assert (ErrorStatus.TOO_BIG, ErrorStatus.NO_SUCH_NAME, ErrorStatus.GEN_ERR) == (1, 2, 5)
    assert (ErrorStatus.NO_ACCESS, ErrorStatus.NOT_WRITABLE, ErrorStatus.INCONSISTENT_NAME) == (6, 17, 18)
