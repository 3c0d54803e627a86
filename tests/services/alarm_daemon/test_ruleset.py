from typing import Any

import pytest

from palatine.codec.alarm_grammar import Alarm, Rule
from palatine.errors import ProtocolError
from palatine_alarm_daemon.ruleset import MAX_RULES, build_ruleset, read_ruleset

ACTIONS = frozenset({"log", "cmd"})
ALARMS = [Alarm(name, "log", "") for name in "abc"]

# rules as (names, regexp, negate); line; alarms fired in order
CASES = [
    ([("a", "x", False)], b"x", "a"),
    ([("a", "x", False)], b"y", ""),
    ([("b,a", "x", False), ("c", "x", False)], b"x", "bac"),
    ([("a", "x", False), ("a", "x", False)], b"x", "aa"),
    ([("a,a", "x", False)], b"x", "aa"),
    ([("a", "x", False), ("b", "quiet", True), ("c", "x", False)], b"x", "ac"),
    ([("a", "x", False), ("b", "quiet", True), ("c", "x", False)], b"x quiet", "a"),
    ([("b", "quiet", True), ("a", "x", False)], b"x quiet", ""),
    ([("b", "", True), ("a", "x", False)], b"x", ""),
    ([("a", ".*", False)], b"[uwsgi-alarm", ""),
    ([("a", ".*", False)], b"[uwsgi-alarm] added fd 77\n", ""),
    ([("a", "SECOND", False)], b"[uwsgi-alarm SECOND LINE", ""),
    ([("a", "uwsgi-alarm", False)], b" [uwsgi-alarm", "a"),
    ([("a", "second", False)], b"first\nsecond\n", "a"),
]


def no_trouble(rule: Rule, reason: str) -> None:
    pytest.fail(f"{rule}: {reason}")


@pytest.mark.parametrize(("rules", "line", "fired"), CASES)
def test_rules_fire_in_order(rules: list[tuple[str, str, bool]], line: bytes, fired: str) -> None:
    compiled = [Rule(tuple(names.split(",")), regexp, negate) for names, regexp, negate in rules]
    ruleset = build_ruleset(ALARMS, compiled, 3.0, ACTIONS)
    assert not ruleset.problems
    assert "".join(alarm.name for alarm in ruleset.raised_by(line, no_trouble)) == fired


def test_the_first_alarm_of_a_name_is_meant() -> None:
    ruleset = build_ruleset([Alarm("a", "log", "1"), Alarm("a", "log", "2")], [Rule(("a",), "x")], 3.0, ACTIONS)
    assert [alarm.arg for alarm in ruleset.raised_by(b"x", no_trouble)] == ["1"]


def test_what_cannot_be_served_is_named_and_the_rest_works() -> None:
    alarms = [
        Alarm("x", "xmpp", "a;b;c"),
        Alarm("e", "airbrake", "http://h/"),
        Alarm("w", "curl", "gopher://h/"),
        Alarm("m", "curl", "smtp://h/"),
        Alarm("a", "log", ""),
    ]
    rules = [
        Rule(("x", "a", "w"), "both"),
        Rule(("nosuch",), "n"),
        Rule(("a",), "(bad"),
        Rule(("x",), "bad)", negate=True),
        Rule(("x",), "quiet", negate=True),
        Rule(("a",), "last"),
    ]
    ruleset = build_ruleset(alarms, rules, 3.0, ACTIONS)
    assert [alarm.name for alarm in ruleset.raised_by(b"both last", no_trouble)] == ["a", "a"]
    assert not ruleset.raised_by(b"quiet last", no_trouble)
    assert [problem.split(" (")[0] for problem in ruleset.problems] == [
        "alarm x: not served yet: xmpp",
        "alarm e: not served yet: airbrake",
        "alarm w: not served yet: curl with gopher://",
        "alarm m: curl: mail needs mail_to",
        "log-alarm nosuch n: none of its alarms is served",
        "log-alarm a",
        "not-log-alarm x bad): unmatched closing parenthesis at offset 3",
    ]


def test_a_rule_that_gives_up_on_a_line_lets_the_others_speak() -> None:
    rules = [Rule(("a",), r"^(a+)+(?=b)\1$"), Rule(("b",), "bc$")]
    ruleset = build_ruleset(ALARMS, rules, 3.0, ACTIONS)
    troubled: list[Rule] = []
    fired = ruleset.raised_by(b"a" * 60 + b"bc", lambda rule, _: troubled.append(rule))
    assert [alarm.name for alarm in fired] == ["b"]
    assert troubled == rules[:1]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {"alarms": {}},
        {"alarms": [{"name": "a"}]},
        {"alarms": [{"name": 1, "action": "log", "arg": ""}]},
        {"rules": [{"alarms": "a", "regexp": "x"}]},
        {"freq": "often"},
    ],
)
def test_a_config_of_another_shape_is_a_protocol_error(body: Any) -> None:
    with pytest.raises(ProtocolError, match=r"^config event: "):
        read_ruleset(body)


def test_unknown_members_of_a_config_are_ignored() -> None:
    body = {"alarms": [{"name": "a", "action": "log", "arg": "", "new": 1}], "rules": [], "freq": 5, "newer": {}}
    assert read_ruleset(body).freq == 5.0


def test_too_many_rules_are_cut() -> None:
    ruleset = build_ruleset(ALARMS, [Rule(("a",), "x")] * (MAX_RULES + 5), 3.0, ACTIONS)
    assert len(ruleset.rules) == MAX_RULES
    assert ruleset.problems == (f"only the first {MAX_RULES} rules are served",)
