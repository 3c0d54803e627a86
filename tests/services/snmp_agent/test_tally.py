import pytest

from palatine.schema import AGENT
from palatine_snmp_agent.rate_policy import Rate, source_of
from palatine_snmp_agent.responder import BAD_COMMUNITY, GET, MALFORMED, Verdict
from palatine_snmp_agent.tally import Sources, Tally

(TABLE,) = AGENT


def tally_and_counts() -> tuple[Tally, memoryview]:
    cells = memoryview(bytearray(8 * len(TABLE.fields))).cast("Q")
    return Tally(cells, TABLE.word), cells


def counts(cells: memoryview) -> dict[str, int]:
    return {field.name: cells[TABLE.word(field.name)] for field in TABLE.fields if cells[TABLE.word(field.name)]}


def test_every_verdict_is_counted_where_the_snmp_group_counts_it() -> None:
    tally, cells = tally_and_counts()
    tally.note("10.0.0.1", Verdict(GET, b"reply", 0, 3), 5.0)
    tally.note("10.0.0.1", Verdict(GET, b"reply", 2, 0), 6.0)
    tally.note("10.0.0.1", Verdict("getbulk_requests", b"reply", 1, 0), 6.0)
    tally.note("10.0.0.2", Verdict("set_requests", b"reply", 17, 0), 6.5)
    tally.note("10.0.0.2", Verdict(BAD_COMMUNITY), 7.0)
    tally.note("10.0.0.2", Verdict(MALFORMED), 8.0)
    tally.add("endpoints", 2)
    tally.add("endpoints", -1)
    assert counts(cells) == {
        "in_pkts": 6,
        "out_pkts": 4,
        "out_get_responses": 4,
        "in_total_req_vars": 3,
        "get_requests": 2,
        "getbulk_requests": 1,
        "set_requests": 1,
        "out_no_such_names": 1,
        "out_too_bigs": 1,
        "in_bad_community_names": 1,
        "in_asn_parse_errs": 1,
        "endpoints": 1,
    }
    nothing = {"bad_communities": 0, "bad_users": 0, "malformed": 0, "throttled": 0}
    assert list(tally.sources.statistics().items()) == [
        (
            "10.0.0.2",
            {**nothing, "datagrams": 3, "replies": 1, "bad_communities": 1, "malformed": 1, "last_seen": 8.0},
        ),
        ("10.0.0.1", {**nothing, "datagrams": 3, "replies": 3, "last_seen": 6.0}),
    ]


def test_only_so_many_sources_are_remembered_the_latest() -> None:
    sources = Sources(limit=3)
    for host in ("a", "b", "c", "a", "d", "e"):
        sources.note(host, Verdict(MALFORMED), 1.0)
    assert list(sources.statistics()) == ["e", "d", "a"]
    assert sources.statistics()["a"]["datagrams"] == 2
    assert sources.forgotten == 2


def test_a_source_that_asks_too_fast_is_not_looked_at_and_recovers_while_it_goes_on() -> None:
    tally, cells = tally_and_counts()
    tally.sources.rate = Rate(10, 3)
    assert [tally.admit("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert tally.admit("b", 100.0)
    admitted = [tally.admit("a", 100.0 + step / 100) for step in range(1, 101)]
    assert sum(admitted) == 10
    assert tally.admit("a", 50.0) is False  # a clock set back
    assert counts(cells) == {"in_pkts": 93, "throttled": 93}
    assert tally.sources.statistics()["a"]["throttled"] == 93
    assert [tally.admit("a", 50.0, lambda: True) for _ in range(4)] == [True, True, True, False]  # he is no stranger
    assert tally.admit("a", 50.1, lambda: True)
    tally.sources.rate = Rate(0)
    assert all(tally.admit("a", 200.0) for _ in range(1000))


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64%eth0"),
    ],
)
def test_what_one_host_may_have_is_one_source(host: str, source: str) -> None:
    assert source_of(host) == source
