import time
from contextlib import suppress

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from palatine.codec.alarm_regexp import required_literals
from palatine.errors import ConfigError
from palatine_alarm_daemon import pcre2
from palatine_alarm_daemon.pcre2 import Pcre2Error
from palatine_alarm_daemon.regexps import compile_regexp, to_re2

# pattern, engine, line, found: PCRE's answers, where other engines say something else
CASES = [
    (b"ALARM$", "re2", b"TERRIBLE ALARM\n", True),
    (b"ALARM$", "re2", b"TERRIBLE ALARM", True),
    (b"ALARM$", "re2", b"TERRIBLE ALARM\n\n", False),
    (b"ALARM$", "re2", b"ALARM\nsecond\n", False),
    (b"^second", "re2", b"first\nsecond\n", False),
    (b"first.second", "re2", b"first\nsecond\n", False),
    (b"first[^x]second", "re2", b"first\nsecond\n", True),
    (b"alarm", "re2", b"ALARM", False),
    (rb"a\sb", "re2", b"a\x0bb", True),
    (rb"a\hb", "re2", b"a\xa0b", True),
    (rb"a\vb", "re2", b"a\x85b", True),
    (rb"a\Nb", "re2", b"a\nb", False),
    (rb"\bfoo\Z", "re2", b"foo\n", True),
    (rb"foo\z", "re2", b"foo\n", False),
    (b"caf\xe9", "re2", b"caf\xe9", True),
    (b"caf.$", "re2", b"caf\xe9\n", True),
    (b"[[:alpha:]]+[[:digit:]]", "re2", b"--ab1", True),
    (b"(ERROR|FATAL)$|panic", "re2", b"FATAL\n", True),
    (b"(a$)\n", "pcre2", b"a\n", True),
    (b"(a$|b)|(c|(d$|e))", "re2", b"d\n", True),
    (b"(a$|b)x", "pcre2", b"bx", True),
    (b"a$b|c", "pcre2", b"c", True),
    (b"a$|b$", "re2", b"b\n", True),
    (b"(a$)+", "pcre2", b"a\n", True),
    (b"^(?!.*health).*ERROR", "pcre2", b"GET /health ERROR", False),
    (b"^(?!.*health).*ERROR", "pcre2", b"GET / ERROR", True),
    (rb"\Q[a.b]\E", "pcre2", b"x[a.b]", True),
    (b"(?i)alarm", "pcre2", b"ALARM", True),
    (rb"(a|b)\1", "pcre2", b"abba", True),
    (b"a++b", "pcre2", b"aab", True),
    (b"a{1,2000}b", "pcre2", b"aab", True),
    (rb"a\Rb", "pcre2", b"a\r\nb", True),
    (rb"foo\Kbar", "pcre2", b"foobar", True),
    (b"(?<=foo)bar", "pcre2", b"foobar", True),
    (b"((?:a|(?1))b)", "pcre2", b"ab", True),
    (b"(?#comment)a", "pcre2", b"a", True),
    (b"[a-]", "re2", b"-", True),
    (rb"[xy]\d{3}$", "re2", b"y123\n", True),
    (rb"\N{3}$", "pcre2", b"abc\n", True),
    (rb"[\w-]x", "pcre2", b"-x", True),
    (rb"\_x", "re2", b"_x", True),
]


@pytest.mark.parametrize(("pattern", "engine", "line", "found"), CASES)
def test_a_regexp_means_what_it_means_to_uwsgi(pattern: bytes, engine: str, line: bytes, found: bool) -> None:  # noqa: FBT001 - a table
    regexp = compile_regexp(pattern)
    assert regexp.engine == engine
    assert regexp.found(line) is found
    library = pcre2.library()
    assert library is not None
    assert library.compile(pattern).search(line) is found


@pytest.mark.parametrize("pattern", [b"(foo", b"foo)", b"[a", b"*a", b"a**", b"(?<n", b"[[:nosuch:]]", b"\\"])
def test_a_bad_regexp_is_refused_in_pcre2s_words(pattern: bytes) -> None:
    with pytest.raises(ConfigError, match="at offset"):
        compile_regexp(pattern)


def test_without_libpcre2_what_re2_cannot_say_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcre2, "library", lambda: None)
    assert compile_regexp(b"plain").engine == "re2"
    with pytest.raises(ConfigError, match="libpcre2-8 is not installed"):
        compile_regexp(b"(?=x)")


def test_a_line_never_costs_more_than_the_limit() -> None:
    regexp = compile_regexp(rb"^(a+)+(?=b)\1$")
    began = time.process_time()
    with pytest.raises(Pcre2Error, match="limit"):
        regexp.found(b"a" * 60 + b"bc")
    assert time.process_time() - began < 0.2
    assert compile_regexp(b"^(a+)+$").engine == "re2"


@pytest.mark.parametrize(
    "pattern", [b"$|" * 4000, b"(" * 200 + b"$" + b")" * 200, b"a" * 200_000, b"(a|" * 2000, b"[a]" * 2700]
)
def test_a_hostile_pattern_costs_no_time(pattern: bytes) -> None:
    began = time.process_time()
    with suppress(ConfigError):
        compile_regexp(pattern)
    assert time.process_time() - began < 1.0


def regexps() -> st.SearchStrategy[bytes]:
    fixed = rb"a|b|ab|\.|]|}| |\x61|.|[ab]|[^a]|\w|\W|\s|\S|\d|\D|\h|\v|\N|[]a]|[\]b-]|\b|\B|^|$|\Z|\z|\t|\n|[^\n]|{|\_"
    classes = rb"[[:space:]]|[\s]|[\wb]|[a-b_]|[^\d]|[[:^alpha:]]"
    atoms = st.sampled_from([*fixed.split(b"|"), *classes.split(b"|")])
    quantifiers = st.sampled_from(b"- - - * + ? {0} {2} {1,2} {0,} *? +? ++".replace(b"-", b"").split(b" "))

    def grow(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        opening = st.sampled_from([b"(", b"(?:", b"(?>", b"(?=", b"(?!", b"(?<=", b"(?<n>"])
        return st.one_of(
            st.lists(inner, max_size=4).map(b"".join),
            st.lists(inner, min_size=2, max_size=3).map(b"|".join),
            st.tuples(opening, inner, quantifiers).map(lambda parts: parts[0] + parts[1] + b")" + parts[2]),
            st.tuples(atoms, quantifiers).map(b"".join),
        )

    return st.recursive(atoms, grow, max_leaves=8)


lines = st.text("ab.]} \t\n\v_1\x85", max_size=16).map(lambda text: text.encode("latin-1"))


@settings(max_examples=1000, deadline=None)
@given(pattern=regexps(), line=lines)
@example(b"a$", b"a\n")
@example(b"(a$)*", b"b")
def test_re2_and_the_prefilter_agree_with_pcre2(pattern: bytes, line: bytes) -> None:
    library = pcre2.library()
    assert library is not None
    try:
        found = library.compile(pattern).search(line)
    except Pcre2Error:
        assume(condition=False)
        raise
    regexp = compile_regexp(pattern)
    assert regexp.found(line) is found, (regexp.engine, to_re2(pattern))
    need = required_literals(pattern)
    if found and need is not None:
        assert any(literal in line for literal in need)


@settings(max_examples=500)
@given(pattern=st.text("()[]{}|*+?.^$\\-,:=!<>#ab1dwsxQE", max_size=12), line=lines)
def test_any_pattern_is_served_or_refused(pattern: str, line: bytes) -> None:
    library = pcre2.library()
    assert library is not None
    try:
        regexp = compile_regexp(pattern.encode())
    except ConfigError:
        return
    try:
        expected = library.compile(pattern.encode()).search(line)
    except Pcre2Error:
        return
    assert regexp.found(line) is expected
