import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import ber
from palatine.errors import ProtocolError

LENGTHS = [(0, "00"), (1, "01"), (0x7F, "7f"), (0x80, "8180"), (0xFF, "81ff"), (0x100, "820100"), (65_507, "82ffe3")]

INTEGERS = [
    (0, "00"),
    (1, "01"),
    (127, "7f"),
    (128, "0080"),
    (255, "00ff"),
    (256, "0100"),
    (-1, "ff"),
    (-128, "80"),
    (-129, "ff7f"),
    (2**31 - 1, "7fffffff"),
    (-(2**31), "80000000"),
    (2**31, "0080000000"),
    (2**64 - 1, "00ffffffffffffffff"),
]

OIDS = [
    ("0.0", "00"),
    ("1.3", "2b"),
    ("2.39", "77"),
    ("2.40", "78"),
    ("2.999.3", "883703"),
    ("1.3.6.1.4.1.35156.17", "2b0601040182925411"),
    ("1.3.127", "2b7f"),
    ("1.3.128", "2b8100"),
    ("1.3.16383", "2bff7f"),
    ("1.3.16384", "2b818000"),
    ("1.3.4294967295", "2b8fffffff7f"),
    ("1.3." + ".".join(["1"] * 126), "2b" + "01" * 126),
]


@pytest.mark.parametrize(("length", "octets"), LENGTHS)
def test_lengths_both_ways(length: int, octets: str) -> None:
    assert ber.encode_length(length).hex() == octets
    data = b"\x04" + bytes.fromhex(octets) + b"x" * length
    assert ber.element(data, 0, len(data)) == (4, len(data) - length, len(data))
    assert ber.content(data, 0, len(data), 4) == (len(data) - length, len(data))
    assert ber.encode(4, b"x" * length) == data


@pytest.mark.parametrize(("value", "octets"), INTEGERS)
def test_integers_both_ways(value: int, octets: str) -> None:
    assert ber.signed_octets(value).hex() == octets
    assert ber.signed(bytes.fromhex(octets)) == value
    element = ber.encode_integer(value)
    assert ber.integer(element, 0, len(element)) == (value, len(element))


@pytest.mark.parametrize(("text", "octets"), OIDS)
def test_names_both_ways(text: str, octets: str) -> None:
    assert ber.parse_oid(text).hex() == octets
    assert ber.parse_oid("." + text).hex() == octets
    assert ber.format_oid(bytes.fromhex(octets)) == text
    assert ber.check_oid(bytes.fromhex(octets)).hex() == octets
    assert ber.oid_octets(tuple(map(int, text.split(".")))).hex() == octets


@pytest.mark.parametrize("octets", ["020400000005", "02840000000105", "02810105"])
def test_padded_forms_that_peers_send_are_read(octets: str) -> None:
    data = bytes.fromhex(octets)
    assert ber.integer(data, 0, len(data)) == (5, len(data))


BROKEN_ELEMENTS = {
    "nothing": "",
    "tag only": "02",
    "one octet short": "0201",
    "indefinite length": "0280050000",
    "five length octets": "0285000000000105",
    "reserved length form": "02ff05",
    "cut off in its length": "028200",
    "length beyond the end": "0284ffffffff05",
    "tag of several octets": "1f810105",
}


@pytest.mark.parametrize("octets", BROKEN_ELEMENTS.values(), ids=BROKEN_ELEMENTS)
def test_a_broken_element_is_refused(octets: str) -> None:
    data = bytes.fromhex(octets)
    with pytest.raises(ProtocolError):
        ber.element(data, 0, len(data))
    with pytest.raises(ProtocolError):
        ber.content(data, 0, len(data), 2)


def test_an_element_may_not_reach_past_the_one_it_stands_in() -> None:
    data = bytes.fromhex("3003020205060708")
    start, stop = ber.content(data, 0, len(data), ber.SEQUENCE)
    with pytest.raises(ProtocolError):
        ber.integer(data, start, stop)


def test_another_tag_is_refused() -> None:
    with pytest.raises(ProtocolError, match="0x04 where 0x02"):
        ber.integer(b"\x04\x01x", 0, 3)


@pytest.mark.parametrize("octets", [b"", b"\x00" * 10])
def test_integers_of_no_or_too_many_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(ProtocolError):
        ber.signed(octets)


BROKEN_NAMES = {
    "empty": "",
    "ends inside an arc": "2b81",
    "padded arc": "2b8001",
    "arc above 32 bits": "2b9080808000",
    "arc of six octets": "2b818080808000",
    "129 arcs": "2b" + "01" * 127,
}


@pytest.mark.parametrize("octets", BROKEN_NAMES.values(), ids=BROKEN_NAMES)
def test_a_broken_name_is_refused(octets: str) -> None:
    with pytest.raises(ProtocolError):
        ber.check_oid(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1",
        "1.",
        "1..3",
        "a.b",
        "3.1",
        "1.40",
        "1.3.4294967296",
        "1.3.-1",
        "1.3.+1",
        "1.3." + "9" * 5000,
        "1.³",
    ],
)
def test_a_dotted_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        ber.parse_oid(text)


arcs = st.tuples(st.integers(0, 2), st.integers(0, 39)).flatmap(
    lambda first: st.lists(st.integers(0, ber.MAX_ARC), max_size=ber.MAX_ARCS - 2).map(lambda rest: (*first, *rest))
)


@given(arcs)
def test_every_name_survives_the_round_trip(name: ber.Oid) -> None:
    octets = ber.oid_octets(name)
    assert ber.check_oid(octets) == octets
    assert ber.oid_arcs(octets) == name
    assert ber.parse_oid(ber.format_oid(octets)) == octets


@given(st.integers(-(2**71), 2**71 - 1))
def test_every_integer_survives_the_round_trip_in_the_fewest_octets(value: int) -> None:
    octets = ber.signed_octets(value)
    assert ber.signed(octets) == value
    assert len(octets) == 1 or (octets[0], octets[1] >> 7) not in {(0, 0), (0xFF, 1)}


@given(st.binary(max_size=600), st.integers(0, 0x1E))
def test_every_element_survives_the_round_trip(octets: bytes, tag: int) -> None:
    data = ber.encode(tag, octets)
    _, start, stop = ber.element(data, 0, len(data))
    assert (data[start:stop], stop) == (octets, len(data))


@given(st.binary(max_size=64), st.integers(0, 70), st.integers(0, 64))
def test_any_octets_give_an_element_or_a_protocol_error(data: bytes, at: int, end: int) -> None:
    end = min(end, len(data))
    try:
        _, start, stop = ber.element(data, at, end)
    except ProtocolError:
        return
    assert at + 2 <= start <= stop <= end


@given(st.binary(max_size=12))
def test_any_octets_that_pass_as_a_name_are_its_only_spelling(octets: bytes) -> None:
    try:
        ber.check_oid(octets)
    except ProtocolError:
        return
    assert ber.oid_octets(ber.oid_arcs(octets)) == octets
