import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from palatine.codec.alarm_grammar import (
    Alarm,
    AlarmFd,
    Prefilter,
    Rule,
    check_rules,
    parse_alarm,
    parse_alarm_fd,
    parse_rule,
)
from palatine.codec.alarm_regexp import MAX_DEPTH, required_literals, tokenize
from palatine.errors import ConfigError

# The values of seed 002 and of the recorded runs, read and written back.
ALARMS = [
    (
        "mailme cmd:mail -s 'uWSGI alarm' -a 'From: foobar@example.com' admin@example.com",
        Alarm("mailme", "cmd", "mail -s 'uWSGI alarm' -a 'From: foobar@example.com' admin@example.com"),
    ),
    ("cachefull signal:17", Alarm("cachefull", "signal", "17")),
    ("toall mule:0", Alarm("toall", "mule", "0")),
    ("toall mule:", Alarm("toall", "mule", "")),
    ("lg log:", Alarm("lg", "log", "")),
    ("lg log:PREFIX", Alarm("lg", "log", "PREFIX")),
    ("say speech:", Alarm("say", "speech", "")),
    (
        "jabber xmpp:foobar@jabber.xxx;mysecretpassword;admin@jabber.xxx,admin2@jabber.xxx",
        Alarm("jabber", "xmpp", "foobar@jabber.xxx;mysecretpassword;admin@jabber.xxx,admin2@jabber.xxx"),
    ),
    (
        "test2 curl:http://192.168.173.6:9191/argh;auth_user=topogigio;auth_pass=foobar",
        Alarm("test2", "curl", "http://192.168.173.6:9191/argh;auth_user=topogigio;auth_pass=foobar"),
    ),
    (
        "errbit airbrake:http://errbit.domain.com/notifier_api/v2/notices;apikey=APIKEY",
        Alarm("errbit", "airbrake", "http://errbit.domain.com/notifier_api/v2/notices;apikey=APIKEY"),
    ),
    ("page snmptrap:", Alarm("page", "snmptrap", "")),
    ("night snmptrap:nms,second", Alarm("night", "snmptrap", "nms,second")),
    ("spaced cmd: leading and  inner", Alarm("spaced", "cmd", " leading and  inner")),
]

RULES = [
    ("cachefull,mailme uWSGI listen queue of socket", Rule(("cachefull", "mailme"), "uWSGI listen queue of socket")),
    ("mailme HARAKIRI ON WORKER", Rule(("mailme",), "HARAKIRI ON WORKER")),
    ("jabber ^TERRIBLE ALARM", Rule(("jabber",), "^TERRIBLE ALARM")),
    ("say .*", Rule(("say",), ".*")),
    ("a ", Rule(("a",), "")),
    ("a  x", Rule(("a",), " x")),
]

FDS = [
    (
        "outofmemory 12:8 OUT OF MEMORY !!!",
        "outofmemory 12:8 OUT OF MEMORY !!!",
        AlarmFd("outofmemory", 12, 8, "OUT OF MEMORY !!!"),
    ),
    ("a 3 hit", "a 3:1 hit", AlarmFd("a", 3, 1, "hit")),
    ("a 3:0 hit", "a 3:1 hit", AlarmFd("a", 3, 1, "hit")),
    ("a 3: hit", "a 3:1 hit", AlarmFd("a", 3, 1, "hit")),
    ("a 3 what: ever", "a 3:1 what: ever", AlarmFd("a", 3, 1, "what: ever")),
]


@pytest.mark.parametrize(("value", "alarm"), ALARMS)
def test_an_alarm_reads_and_writes(value: str, alarm: Alarm) -> None:
    assert parse_alarm(value) == alarm
    assert f"{alarm.name} {alarm.action}:{alarm.arg}" == value


@pytest.mark.parametrize(("value", "rule"), RULES)
def test_a_rule_reads_and_writes(value: str, rule: Rule) -> None:
    assert parse_rule(value, negate=False) == rule
    assert parse_rule(value, negate=True) == rule._replace(negate=True)
    assert f"{','.join(rule.alarms)} {rule.regexp}" == value


@pytest.mark.parametrize(("value", "canonical", "alarm_fd"), FDS)
def test_an_alarm_fd_reads_and_writes(value: str, canonical: str, alarm_fd: AlarmFd) -> None:
    assert parse_alarm_fd(value) == alarm_fd
    assert f"{alarm_fd.alarm} {alarm_fd.fd}:{alarm_fd.size} {alarm_fd.message}" == canonical


@pytest.mark.parametrize("value", ["", "name", "name action", "name cmd", " cmd:x"])
def test_a_wrong_alarm_is_refused_in_uwsgis_words(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^invalid alarm syntax: {re.escape(value)}$"):
        parse_alarm(value)


@pytest.mark.parametrize(
    "value", ["x nosuch:arg", "x signal:256", "x signal:usr1", "x signal:", "x mule:all", "x Cmd:y"]
)
def test_an_alarm_nobody_can_run_is_refused_in_uwsgis_words(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^invalid alarm: {re.escape(value)} "):
        parse_alarm(value)


@pytest.mark.parametrize("value", ["", "names", " regexp", ", regexp"])
def test_a_wrong_rule_is_refused_in_uwsgis_words(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^invalid log-alarm syntax: {re.escape(value)}$"):
        parse_rule(value, negate=False)


@pytest.mark.parametrize("value", ["", "a", "a 3", "a three hit", "a 3:x hit", "a -1 hit"])
def test_a_wrong_alarm_fd_is_refused_in_uwsgis_words(value: str) -> None:
    with pytest.raises(ConfigError, match=f"^invalid alarm-fd syntax: {re.escape(value)}$"):
        parse_alarm_fd(value)


def test_a_rule_may_only_name_alarms_that_exist() -> None:
    alarms = [Alarm("a", "log", "")]
    check_rules(alarms, [Rule(("a", "a"), "x"), Rule(("a",), "y", negate=True)])
    with pytest.raises(ConfigError, match=r"^invalid log-alarm: a,b x \(no alarm"):
        check_rules(alarms, [Rule(("a", "b"), "x")])


names = st.text(st.characters(exclude_characters=" ,"), min_size=1)


@given(name=names, action=st.sampled_from(["cmd", "log", "curl", "xmpp", "speech", "airbrake"]), arg=st.text())
def test_every_alarm_round_trips(name: str, action: str, arg: str) -> None:
    assert parse_alarm(f"{name} {action}:{arg}") == Alarm(name, action, arg)


@given(alarms=st.lists(names, min_size=1).map(tuple), regexp=st.text(), negate=st.booleans())
def test_every_rule_round_trips(alarms: tuple[str, ...], regexp: str, negate: bool) -> None:  # noqa: FBT001 - drawn
    assert parse_rule(f"{','.join(alarms)} {regexp}", negate) == Rule(alarms, regexp, negate)


# -- required literals ------------------------------------------------------------------------------------------------

LITERALS: list[tuple[bytes, set[bytes] | None]] = [
    (b"uWSGI listen queue of socket", {b"uWSGI listen queue of socket"}),
    (b"^TERRIBLE ALARM", {b"TERRIBLE ALARM"}),
    (b"TERRIBLE ALARM$", {b"TERRIBLE ALARM"}),
    (rb"\[emperor\] vassal \S+ has been spawned", {b"[emperor] vassal "}),
    (rb"a\.b\x41\tc", {b"a.bA\tc"}),
    (b"caf\xe9", {b"caf\xe9"}),
    (b"(foo)bar", {b"foobar"}),
    (b"(?:foo|quux)ba", {b"foo", b"quux"}),
    (b"(?P<x>foo)|(?<y>bar)", {b"foo", b"bar"}),
    (b"fo+bar", {b"bar"}),
    (rb"\d{3}foo", {b"foo"}),
    (rb"\N{U+41}foo", None),
    (b"foo?bar", {b"bar"}),
    (b"abc?", {b"ab"}),
    (b"ab{2}c", {b"ab"}),
    (b"ab{0,3}cd", {b"cd"}),
    (b"(foo)*barb", {b"barb"}),
    (b"(foobar)+b", {b"foobar"}),
    (b"foo++b*+a", {b"foo"}),
    (b"[^]abc]foo", {b"foo"}),
    (b"[[:alpha:]]+ failed", {b" failed"}),
    (rb"\bfoo\b", {b"foo"}),
    (b"^(?!.*health).*ERROR", {b"ERROR"}),
    (b"(?<=x)foo(?=.*barbar)", {b"foo"}),
    (b"(?>foo|ab)longer", {b"longer"}),
    (b"{24 vars in", {b"{24 vars in"}),
    (b"x{,3}foo", None),  # PCRE2 changed what this means in 10.43
    (b".*", None),
    (b"", None),
    (b"foo|", None),
    (b"foo|.", None),
    (b"(?i)foo", None),
    (b"(?i:foo)bar", None),
    (b"(?x) foo", None),
    (rb"\Qfoo\E", None),
    (rb"(foo)\1", None),
    (rb"\x{41}foo", None),
    (b"(*ACCEPT)foo", None),
    (b"(?#comment)foo", None),
    (b"(?|foo|bar)", None),
    (b"(?1)foo", None),
    (b"[[.a.]]foo", None),
    (b"foo)", None),
    (b"(foo", None),
    (b"[foo", None),
    (b"*foo", None),
    (b"foo**", None),
    (b"(" * (MAX_DEPTH + 1) + b"foo" + b")" * (MAX_DEPTH + 1), None),
    (b"|".join(b"literal %d" % n for n in range(100)), None),
    (b"a" * 8192, {b"a" * 8192}),
    (b"a" * 8193, None),
]


@pytest.mark.parametrize(("pattern", "need"), LITERALS, ids=[repr(pattern)[:40] for pattern, _ in LITERALS])
def test_what_every_match_contains(pattern: bytes, need: set[bytes] | None) -> None:
    assert required_literals(pattern) == (None if need is None else frozenset(need))


def regexps() -> st.SearchStrategy[bytes]:
    """Regexps on which `re` and PCRE agree, over an alphabet small enough that random text matches often."""
    fixed = rb"a|b|c|ab|bca|\.|]|}| |\x61|.|[ab]|[^a]|\w|\W|\s|[]a]|[\]b-]|\b|^|\t|{|{a"
    atoms = st.sampled_from(fixed.split(b"|"))
    quantifiers = st.sampled_from(b"- - * + ? {0} {1} {2} {1,2} {0,} *? +? {2,}?".replace(b"-", b"").split(b" "))

    def grow(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        opening = st.sampled_from([b"(", b"(?:", b"(?>", b"(?=", b"(?!", b"(?P<n>"])
        return st.one_of(
            st.lists(inner, max_size=4).map(b"".join),
            st.lists(inner, min_size=2, max_size=3).map(b"|".join),
            st.tuples(opening, inner, quantifiers).map(lambda parts: parts[0] + parts[1] + b")" + parts[2]),
            st.tuples(atoms, quantifiers).map(b"".join),
        )

    return st.recursive(atoms, grow, max_leaves=8)


def compiled(pattern: bytes) -> "re.Pattern[bytes]":
    try:
        return re.compile(pattern)
    except re.error:
        assume(condition=False)
        raise


texts = st.text("abc.]}{ \t\n", max_size=24).map(str.encode)


@settings(max_examples=600)
@given(patterns=st.lists(regexps(), min_size=1, max_size=2), text=texts, data=st.data())
def test_the_prefilter_never_drops_what_a_rule_matches(patterns: list[bytes], text: bytes, data: st.DataObject) -> None:
    prefilter = Prefilter(Rule(("a",), pattern.decode()) for pattern in patterns)
    programs = [compiled(pattern) for pattern in patterns]
    if any(program.search(text) for program in programs):
        assert prefilter.may_match(text)
        assert prefilter.may_match(b"before\n" + text + b"after\n")
    if (program := data.draw(st.sampled_from(programs))).search(b"") is None and b"(?" not in program.pattern:
        assert prefilter.may_match(data.draw(st.from_regex(program)))


@given(st.binary(max_size=200))
def test_tokens_are_the_pattern(pattern: bytes) -> None:
    tokens = tokenize(pattern)
    assert tokens is None or b"".join(token.raw for token in tokens) == pattern


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_quoted_text_is_its_own_literal(text: str) -> None:
    pattern = "".join(f"\\{c}" if c.isascii() and not c.isalnum() and c.isprintable() else c for c in text)
    assert required_literals(Rule(("a",), pattern).pattern()) == frozenset({text.encode()})


def test_the_prefilter_of_no_rules_drops_everything() -> None:
    assert not Prefilter([]).may_match(b"anything")
    assert not Prefilter([Rule(("a",), "anything", negate=True)]).may_match(b"anything")


def test_the_prefilter_drops_blocks_without_any_literal() -> None:
    prefilter = Prefilter([Rule(("a",), "HARAKIRI"), Rule(("a",), "HARAKIRI ON"), Rule(("b",), "queue.*full")])
    assert prefilter.literals == (b"queue", b"HARAKIRI")
    assert prefilter.may_match(b"one\n*** HARAKIRI ON WORKER 1\nthree\n")
    assert prefilter.may_match(b"listen queue\n")
    assert not prefilter.may_match(b"harakiri\nfull\n")


def test_one_opaque_rule_lets_everything_pass() -> None:
    assert Prefilter([Rule(("a",), "HARAKIRI"), Rule(("b",), "(?i)x")]).may_match(b"anything")


def test_too_many_literals_let_everything_pass() -> None:
    rules = [Rule(("a",), f"literal {number:04d}") for number in range(300)]
    assert not Prefilter(rules[:256]).may_match(b"x")
    assert Prefilter(rules).may_match(b"x")


def test_the_prefilter_speaks_the_configs_bytes() -> None:
    assert Prefilter([Rule(("a",), "caf\u00e9")]).may_match("café".encode())
    assert Prefilter([Rule(("a",), "caf\udce9")]).may_match(b"caf\xe9")
