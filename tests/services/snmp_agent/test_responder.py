from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec import ber, snmp
from palatine.codec.snmp import ErrorStatus, PduType, Varbind
from palatine.counters import SegmentView
from palatine.errors import ProtocolError
from palatine_snmp_agent import responder as module
from palatine_snmp_agent.pdu import MAX_SKIPPED
from palatine_snmp_agent.responder import LEAST_MAX_REPLY, MAX_REPLY, Responder, Verdict
from palatine_snmp_agent.uwsgi_tree import instance_view
from palatine_snmp_agent.view import View
from snmp_master import cell, cells_view, plant, request, set_requests, set_value, shown

GET, NEXT, BULK, SET = PduType.GET, PduType.GET_NEXT, PduType.GET_BULK, PduType.SET
V1, V2C = 0, 1
ONE = snmp.counter64(1)
NONE = snmp.counter64(0)
GAUGE = snmp.gauge32(77)
COUNTER = snmp.counter32(7)
LARGEST = snmp.counter64(-1)
NO_OBJECT, NO_INSTANCE, END = snmp.NO_SUCH_OBJECT, snmp.NO_SUCH_INSTANCE, snmp.END_OF_MIB_VIEW


@contextmanager
def planted(tmp_path_factory: pytest.TempPathFactory, *, exactly: bool) -> Iterator[View]:
    """1 request by worker 1 of 2; values 2 (Counter64), 40 (Gauge32) and 41 (Counter32); maybe `exactly` uWSGI's."""
    segment = plant(tmp_path_factory.mktemp("segment") / "seg", workers=2)
    set_requests(segment, 0, 1)
    set_value(segment, 2, snmp.COUNTER64, 2**64 - 1)
    set_value(segment, 40, snmp.GAUGE32, 77)
    set_value(segment, 41, snmp.COUNTER32, 7)
    segment.publish()
    with SegmentView.open(segment.path) as reader:
        yield instance_view(reader, null_unset=exactly)
    segment.close(unlink=True)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    with planted(tmp_path_factory, exactly=False) as made:
        yield made


@pytest.fixture(scope="module")
def as_uwsgi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[View]:
    with planted(tmp_path_factory, exactly=True) as made:
        yield made


@pytest.fixture
def responder(view: View) -> Responder:
    return Responder(view, b"foo")


# --- uWSGI's own replies, from the wire -------------------------------------------------------------------------

CAPTURED = {
    "1.1": (
        "30290201010403666f6fa01f0204010203040201000201003011300f060b2b060104018292541101010500",
        "30310201010403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
    ),
    "2.40": (
        "30290201010403666f6fa01f0204010203040201000201003011300f060b2b060104018292541102280500",
        "302d0201010403666f6fa22302040102030402010002010030153013060b2b0601040182925411022842040000004d",
    ),
    "2.2": (
        "30290201010403666f6fa01f0204010203040201000201003011300f060b2b060104018292541102020500",
        "30310201010403666f6fa22702040102030402010002010030193017060b2b060104018292541102024608ffffffffffffffff",
    ),
    "1.1 in v1": (
        "30290201000403666f6fa01f0204010203040201000201003011300f060b2b060104018292541101010500",
        "30310201000403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
    ),
    "1.1 in version 2": (
        "30290201020403666f6fa01f0204010203040201000201003011300f060b2b060104018292541101010500",
        "30310201020403666f6fa22702040102030402010002010030193017060b2b0601040182925411010146080000000000000001",
    ),
    "2.40 with a request-id of one octet": (
        "30260201010403666f6fa01c0201050201000201003011300f060b2b060104018292541102280500",
        "302a0201010403666f6fa22002010502010002010030153013060b2b0601040182925411022842040000004d",
    ),
}


@pytest.mark.parametrize(("question", "answer"), CAPTURED.values(), ids=CAPTURED)
def test_replies_are_uwsgis_octet_for_octet(view: View, as_uwsgi: View, question: str, answer: str) -> None:
    for shown_by in (as_uwsgi, *([view] if "4608ff" not in answer else [])):
        responder = Responder(shown_by, b"foo")
        for _ in range(2):  # read, and remembered
            verdict = responder.answer(bytes.fromhex(question))
            assert verdict == Verdict("get_requests", bytes.fromhex(answer), 0, 1)


def test_the_null_uwsgi_sends_for_an_unset_value_is_to_be_had(tmp_path: Path) -> None:
    segment = plant(tmp_path / "seg")
    segment.publish()
    with SegmentView.open(segment.path) as reader:
        responder = Responder(instance_view(reader, null_unset=True), b"foo")
        verdict = responder.answer(
            bytes.fromhex("30290201010403666f6fa01f0204010203040201000201003011300f060b2b060104018292541101020500")
        )
    segment.close(unlink=True)
    assert verdict.reply is not None
    assert verdict.reply.hex() == (
        "30290201010403666f6fa21f0204010203040201000201003011300f060b2b060104018292541101020500"
    )


# What uWSGI drops, or answers with a broken datagram, and the standard answers.
IMPROVED = {
    "two names": (
        (
            "303a0201010403666f6fa0300204010203040201000201003022300f060b2b060104018292541101010500"
            "300f060b2b060104018292541102280500"
        ),
        [("1.1", ONE), ("2.40", GAUGE)],
    ),
    "three names": (
        (
            "304b0201010403666f6fa0410204010203040201000201003033300f060b2b060104018292541101010500"
            "300f060b2b060104018292541101020500300f060b2b060104018292541102280500"
        ),
        [("1.1", ONE), ("1.2", NO_INSTANCE), ("2.40", GAUGE)],
    ),
    "request-id of five octets": (
        "302a0201010403666f6fa020020500800000000201000201003011300f060b2b060104018292541102280500",
        [("2.40", GAUGE)],
    ),
    "instance .0": (
        "302a0201010403666f6fa02002040102030402010002010030123010060c2b06010401829254110101000500",
        [("1.1.0", NO_INSTANCE)],
    ),
    "getnext": (
        "30290201010403666f6fa11f0204010203040201000201003011300f060b2b060104018292541101010500",
        [("1.31", ONE)],
    ),
    "a value in the question": (
        "302a0201010403666f6fa02002040102030402010002010030123010060b2b06010401829254110101020100",
        [("1.1", ONE)],
    ),
}


@pytest.mark.parametrize(("question", "varbinds"), IMPROVED.values(), ids=IMPROVED)
def test_what_uwsgi_leaves_unanswered(responder: Responder, question: str, varbinds: list[tuple[str, bytes]]) -> None:
    datagram = bytes.fromhex(question)
    reply = responder.answer(datagram).reply
    assert shown(reply) == (0, 0, varbinds)
    assert reply is not None
    assert snmp.open_envelope(reply).request_id == snmp.open_envelope(datagram).request_id


# --- every PDU in every version ---------------------------------------------------------------------------------

ANSWERS = [
    ("get one", V2C, GET, ["1.31"], (0, 0, [("1.31", ONE)])),
    ("get none", V2C, GET, [], (0, 0, [])),
    ("get a name twice", V2C, GET, ["2.40", "2.40"], (0, 0, [("2.40", GAUGE), ("2.40", GAUGE)])),
    ("get unset", V2C, GET, ["2.1"], (0, 0, [("2.1", NO_INSTANCE)])),
    ("get unknown", V2C, GET, ["9.9"], (0, 0, [("9.9", NO_OBJECT)])),
    ("get some", V2C, GET, ["9", "2.40", "2.1"], (0, 0, [("9", NO_OBJECT), ("2.40", GAUGE), ("2.1", NO_INSTANCE)])),
    ("v1 get", V1, GET, ["2.40", "2.41"], (0, 0, [("2.40", GAUGE), ("2.41", COUNTER)])),
    ("v1 get of a Counter64, as uWSGI", V1, GET, ["2.2", "1.1"], (0, 0, [("2.2", LARGEST), ("1.1", ONE)])),
    ("v1 get unset", V1, GET, ["2.40", "2.1"], (2, 2, [("2.40", snmp.NULL), ("2.1", snmp.NULL)])),
    ("v1 get unknown", V1, GET, ["9", "2.1"], (2, 1, [("9", snmp.NULL), ("2.1", snmp.NULL)])),
    ("next", V2C, NEXT, ["1.1"], (0, 0, [("1.31", ONE)])),
    ("next from the base", V2C, NEXT, [""], (0, 0, [("1.1", ONE)])),
    ("next inside nothing", V2C, NEXT, ["1.31.7.7"], (0, 0, [("1.32", NONE)])),
    ("next over a gap", V2C, NEXT, ["1.32"], (0, 0, [("2.2", LARGEST)])),
    ("next of several", V2C, NEXT, ["1.32", "2.40"], (0, 0, [("2.2", LARGEST), ("2.41", COUNTER)])),
    ("next at the end", V2C, NEXT, ["2.41", "2.2"], (0, 0, [("2.41", END), ("2.40", GAUGE)])),
    ("next beyond", V2C, NEXT, ["7"], (0, 0, [("7", END)])),
    ("v1 next passes over Counter64", V1, NEXT, [""], (0, 0, [("2.40", GAUGE)])),
    ("v1 next", V1, NEXT, ["2.40"], (0, 0, [("2.41", COUNTER)])),
    ("v1 next at the end", V1, NEXT, ["2.40", "2.41"], (2, 2, [("2.40", snmp.NULL), ("2.41", snmp.NULL)])),
    ("set", V2C, SET, ["2.40"], (17, 1, [("2.40", snmp.NULL)])),
    ("set unknown", V2C, SET, ["9", "2.40"], (17, 1, [("9", snmp.NULL), ("2.40", snmp.NULL)])),
    ("set nothing", V2C, SET, [], (0, 0, [])),
    ("v1 set", V1, SET, ["2.40"], (2, 1, [("2.40", snmp.NULL)])),
    ("version 2 is as v2c", 2, NEXT, ["2.41"], (0, 0, [("2.41", END)])),
]


@pytest.mark.parametrize(
    ("version", "pdu_type", "names", "answer"), [case[1:] for case in ANSWERS], ids=[case[0] for case in ANSWERS]
)
def test_every_request_gets_its_answer(
    responder: Responder,
    version: int,
    pdu_type: int,
    names: list[str],
    answer: tuple[int, int, list[tuple[str, bytes]]],
) -> None:
    for request_id in (1, 2**31 - 1, -(2**31), 0):
        reply = responder.answer(request(pdu_type, *names, version=version, request_id=request_id)).reply
        assert shown(reply) == answer
        assert reply is not None
        message = snmp.read_message(reply)
        assert (message.version, message.community) == (version, b"foo")
        assert message.request_id == ber.signed_octets(request_id)


BULKS = [
    ("nothing asked", [], (0, 10), []),
    ("no repetitions", ["1"], (0, 0), []),
    ("negative numbers are none", ["1"], (-(2**31), -(2**31)), []),
    ("one row", ["1", "2"], (0, 1), [("1.1", ONE), ("2.2", LARGEST)]),
    ("only once", ["1", "2"], (2, 9), [("1.1", ONE), ("2.2", LARGEST)]),
    ("more once than there are", ["1", "2"], (9, 9), [("1.1", ONE), ("2.2", LARGEST)]),
    ("once at the end", ["7"], (1, 5), [("7", END)]),
    (
        "some once, some again",
        ["1", "1.32", "2.2"],
        (1, 2),
        [("1.1", ONE), ("2.2", LARGEST), ("2.40", GAUGE), ("2.40", GAUGE), ("2.41", COUNTER)],
    ),
    ("up to the end", ["2.2"], (0, 10), [("2.40", GAUGE), ("2.41", COUNTER), ("2.41", END)]),
    ("from the end", ["2.41"], (0, 2**31 - 1), [("2.41", END)]),
    (
        "columns of different length end together",
        ["2.40", "2.2"],
        (0, 10),
        [("2.41", COUNTER), ("2.40", GAUGE), ("2.41", END), ("2.41", COUNTER), ("2.41", END), ("2.41", END)],
    ),
    (
        "the first column is the last to end",
        ["2.2", "2.41"],
        (0, 10),
        [("2.40", GAUGE), ("2.41", END), ("2.41", COUNTER), ("2.41", END), ("2.41", END), ("2.41", END)],
    ),
    (
        "something once that ended does not end the rest",
        ["7", "2.40"],
        (1, 2),
        [("7", END), ("2.41", COUNTER), ("2.41", END)],
    ),
]


@pytest.mark.parametrize(
    ("names", "numbers", "varbinds"), [case[1:] for case in BULKS], ids=[case[0] for case in BULKS]
)
def test_getbulk(
    responder: Responder, names: list[str], numbers: tuple[int, int], varbinds: list[tuple[str, bytes]]
) -> None:
    assert shown(responder.answer(request(BULK, *names, numbers=numbers)).reply) == (0, 0, varbinds)


# --- silence ----------------------------------------------------------------------------------------------------

SILENT = [
    ("another community", request(GET, "1.1", community=b"bar"), "in_bad_community_names"),
    ("community cut", request(GET, "1.1", community=b"fo"), "in_bad_community_names"),
    ("community longer", request(GET, "1.1", community=b"foo "), "in_bad_community_names"),
    ("no community", request(GET, "1.1", community=b""), "in_bad_community_names"),
    ("v3", request(GET, "1.1", version=3), "in_bad_versions"),
    ("version -1", request(GET, "1.1", version=-1), "in_bad_versions"),
    ("v1 getbulk", request(BULK, "1.1", version=0), "unknown_pdus"),
    ("response", request(PduType.RESPONSE, "1.1"), "unknown_pdus"),
    ("inform", request(PduType.INFORM, "1.1"), "unknown_pdus"),
    ("trap", request(PduType.TRAP, "1.1"), "unknown_pdus"),
    ("report", request(PduType.REPORT, "1.1"), "unknown_pdus"),
    ("v1 trap", request(PduType.TRAP_V1, "1.1", version=0), "in_asn_parse_errs"),
    ("nothing", b"", "in_asn_parse_errs"),
    ("one octet", b"\x30", "in_asn_parse_errs"),
    ("text", b"hello", "in_asn_parse_errs"),
    ("body broken", request(GET, "1.1")[:-1] + b"\1", "in_asn_parse_errs"),
]


@pytest.mark.parametrize(("datagram", "counter"), [case[1:] for case in SILENT], ids=[case[0] for case in SILENT])
def test_silence_is_counted(responder: Responder, datagram: bytes, counter: str) -> None:
    assert responder.answer(request(GET, "1.1")).reply is not None
    assert responder.answer(datagram) == Verdict(counter)


@pytest.mark.parametrize("community", [b"", b"foo", b"public"])
def test_without_a_community_nobody_is_answered(view: View, community: bytes) -> None:
    assert Responder(view, b"").answer(request(GET, "1.1", community=community)).reply is None


def test_a_remembered_get_is_not_answered_for_another_community(view: View) -> None:
    first, second = Responder(view, b"foo"), Responder(view, b"fou")
    for _ in range(3):
        assert first.answer(request(GET, "1.1")).reply is not None
        assert second.answer(request(GET, "1.1")).reply is None


# --- bounds -----------------------------------------------------------------------------------------------------


def values(count: int) -> View:
    """`count` values below .2, each worth 21 to 24 octets of a reply."""
    return cells_view(*(cell(f"2.{n}", partial(snmp.counter64, n)) for n in range(1, count + 1)))


@pytest.mark.parametrize("max_reply", [LEAST_MAX_REPLY, 900, MAX_REPLY])
def test_a_getbulk_fills_a_reply_and_never_exceeds_it(max_reply: int) -> None:
    responder = Responder(values(500), b"foo", max_reply)
    reply = responder.answer(request(BULK, "2", numbers=(0, 2**31 - 1))).reply
    assert reply is not None
    assert max_reply - 80 < len(reply) <= max_reply
    assert [name for name, _ in shown(reply)[2]] == [f"2.{n}" for n in range(1, len(shown(reply)[2]) + 1)]


def test_a_getbulk_that_has_no_room_for_its_first_row_gives_what_fits() -> None:
    responder = Responder(values(500), b"foo", LEAST_MAX_REPLY)
    names = [f"2.{n}" for n in range(1, 26)]
    status, _, varbinds = shown(responder.answer(request(BULK, *names, numbers=(25, 0))).reply)
    assert status == 0
    assert [name for name, _ in varbinds] == [f"2.{n}" for n in range(2, len(varbinds) + 2)]
    assert 15 <= len(varbinds) < 25


@pytest.mark.parametrize("pdu_type", [GET, NEXT])
@pytest.mark.parametrize(("version", "names"), [(V2C, 0), (V1, 40)])
def test_a_reply_that_does_not_fit_is_too_big(pdu_type: int, version: int, names: int) -> None:
    responder = Responder(cells_view(cell("2.1", lambda: snmp.gauge32(1))), b"foo", 730)
    asked = request(pdu_type, *["2.1" if pdu_type == GET else "2"] * 40, version=version)
    assert len(asked) <= 730
    for _ in range(2):
        verdict = responder.answer(asked)
        status, index, varbinds = shown(verdict.reply)
        assert (status, index, len(varbinds), verdict.status) == (ErrorStatus.TOO_BIG, 0, names, ErrorStatus.TOO_BIG)


@pytest.mark.parametrize("version", [V1, V2C])
@pytest.mark.parametrize("pdu_type", [GET, NEXT, SET])
def test_a_request_longer_than_any_reply_is_too_big_without_its_names(
    responder: Responder, pdu_type: int, version: int
) -> None:
    verdict = responder.answer(request(pdu_type, *["2.40"] * 2000, version=version))
    assert shown(verdict.reply) == (ErrorStatus.TOO_BIG, 0, [])


def test_a_set_whose_refusal_does_not_fit_is_too_big(responder: Responder) -> None:
    asked = request(SET, *["2.40"] * 10, value=snmp.octet_string(b"x" * 140))
    assert shown(responder.answer(asked).reply) == (ErrorStatus.TOO_BIG, 0, [])


def test_max_reply_is_never_below_what_every_manager_takes(view: View) -> None:
    responder = Responder(view, b"foo", 1)
    assert shown(responder.answer(request(GET, *["2.40"] * 15)).reply)[0] == 0


@pytest.mark.parametrize(("pdu_type", "status"), [(NEXT, ErrorStatus.TOO_BIG), (BULK, ErrorStatus.NO_ERROR)])
def test_a_datagram_may_make_the_agent_pass_over_so_many_cells(pdu_type: int, status: int) -> None:
    looks = 0

    def unset() -> bytes:
        nonlocal looks
        looks += 1
        return b""

    hollow = cells_view(*(cell(f"2.{n}", unset) for n in range(1, 1001)))
    verdict = Responder(hollow, b"foo").answer(request(pdu_type, *["2"] * 80, numbers=(0, 9)))
    assert verdict.status == status
    assert looks <= MAX_SKIPPED + 1


@pytest.mark.parametrize(
    ("pdu_type", "names", "index"), [(GET, ["2.40", "5.1"], 2), (NEXT, ["2.40", "5"], 2), (BULK, ["5"], 1)]
)
@pytest.mark.parametrize("version", [V1, V2C])
def test_a_cell_that_cannot_be_read_is_gen_err(version: int, pdu_type: int, names: list[str], index: int) -> None:
    def broken() -> bytes:
        raise ProtocolError("cut short")

    view = cells_view(cell("2.40", lambda: GAUGE), cell("2.41", lambda: GAUGE), cell("5.1", broken))
    verdict = Responder(view, b"foo").answer(request(pdu_type, *names, version=version, numbers=(0, 5)))
    if version == V1 and pdu_type == BULK:
        assert verdict.reply is None
        return
    answered = (ErrorStatus.GEN_ERR, index) if pdu_type != BULK else (5, 1)
    assert shown(verdict.reply)[:2] == answered


# --- remembering ------------------------------------------------------------------------------------------------


def test_remembered_gets_show_new_values(tmp_path: Path) -> None:
    segment = plant(tmp_path / "seg")
    segment.publish()
    with SegmentView.open(segment.path) as reader:
        responder = Responder(instance_view(reader), b"foo")
        for count in range(5):
            set_requests(segment, 0, count)
            assert shown(responder.answer(request(GET, "1.1")).reply)[2] == [("1.1", snmp.counter64(count))]
        set_value(segment, 1, snmp.GAUGE32, 1)
        assert shown(responder.answer(request(GET, "2.1", "1.1")).reply)[2][0] == ("2.1", snmp.gauge32(1))
        set_value(segment, 1, 0, 1)
        assert shown(responder.answer(request(GET, "2.1", "1.1")).reply)[2][0] == ("2.1", NO_INSTANCE)
    segment.close(unlink=True)


def test_what_is_remembered_is_bounded(view: View) -> None:
    responder = Responder(view, b"foo")
    for number in range(1, 700):
        assert responder.answer(request(GET, f"2.{number}", "1.1")).reply is not None
        assert len(responder._plans) <= module.REMEMBERED
    responder.answer(request(GET, *["2.40"] * 60))
    assert max(len(head) + len(tail) for head, tail in responder._plans) < module.REMEMBERED_OCTETS


names = st.sampled_from(["", "1", "1.1", "1.31", "2.2", "2.40", "2.41", "2.41.0", "3", "1.1.0", "2.16384"])
datagrams = st.builds(
    lambda pdu, chosen, version, rid, numbers: request(pdu, *chosen, version=version, request_id=rid, numbers=numbers),
    st.sampled_from([GET, GET, GET, NEXT, BULK, SET]),
    st.lists(names, max_size=30),
    st.sampled_from([0, 1, 2]),
    st.integers(-(2**31), 2**32 - 1),
    st.tuples(st.integers(-1, 3), st.integers(-1, 60)),
)


@given(st.lists(datagrams, max_size=12))
def test_a_responder_with_a_memory_answers_as_one_without(view: View, sent: list[bytes]) -> None:
    remembering = Responder(view, b"foo")
    for datagram in sent + sent:
        assert remembering.answer(datagram) == Responder(view, b"foo").answer(datagram)


@given(datagrams, st.data())
def test_a_damaged_datagram_after_a_good_one_is_judged_by_itself(
    view: View, datagram: bytes, data: st.DataObject
) -> None:
    remembering = Responder(view, b"foo")
    remembering.answer(datagram)
    at = data.draw(st.integers(0, len(datagram) - 1))
    damaged = bytearray(datagram)
    damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for sent in (bytes(damaged), cut, cut + b"\0"):
        assert remembering.answer(sent) == Responder(view, b"foo").answer(sent)


@given(datagrams)
def test_replies_are_well_formed_and_fit(view: View, datagram: bytes) -> None:
    reply = Responder(view, b"foo").answer(datagram).reply
    if reply is None:
        assert snmp.open_envelope(datagram)[0:3] == (V1, b"foo", BULK)  # the only one of these that gets none
        return
    assert len(reply) <= MAX_REPLY
    message = snmp.read_message(reply)
    assert message.body.error_index <= len(message.body.varbinds)
    assert all(isinstance(varbind, Varbind) for varbind in message.body.varbinds)
