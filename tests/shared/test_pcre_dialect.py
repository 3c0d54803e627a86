"""Expressions of uWSGI's users, who write for PCRE, mean here what they mean there."""

import re

import pytest

from palatine.codec.pcre_dialect import to_python


@pytest.mark.parametrize(
    ("pattern", "matched", "unmatched"),
    [
        ("[[:alpha:]]+ print", "hello print", "123 print"),
        ("^[[:digit:][:upper:]_]+$", "A_9", "a_9"),
        ("[^[:space:]]x", "ax", " x"),
        ("[[:punct:]]", "a-b", "ab1"),
        ("[[:blank:]-]x", "-x", "ax"),
        (r"\Qa.b(\E+c", "a.b((c", "axb(c"),
        (r"\Qa.b", "a.b", "aXb"),
        ("(?<year>[0-9]{4})-(?P=year)", "2020-2020", "2020-2021"),
        ("(?<!a)b", "cb", "ab"),
        ("(?<=a)b", "ab", "cb"),
        (r"end\z", "the end", "the end\n"),
        (r"end\Z", "the end\n", "the end\n\n"),
        (r"a\hb", "a\tb", "a\nb"),
        (r"a[\h,]b", "a\tb", "a\nb"),
        (r"a\Rb", "a\r\nb", "a b"),
        (r"[]a]x", "]x", "bx"),
        (r"[^]a]x", "bx", "]x"),
        ("[a[b]x", "[x", "cx"),
        (r"[\]\[]x", "[x", "ax"),
        (r"\[[:alpha:]\]", "[:]", "b]"),
        (r"a++b", "aab", "aa"),
        ("", "anything", None),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_written_for_pcre(pattern: str, matched: str, unmatched: str | None) -> None:
    compiled = re.compile(to_python(pattern))
    assert compiled.search(matched)
    assert unmatched is None or not compiled.search(unmatched)


@pytest.mark.parametrize("pattern", ["[[:alfa:]]", "[[:^alpha:]]", "[a", "(a", r"\Ka", "*"])
def test_what_nobody_reads_is_refused(pattern: str) -> None:
    with pytest.raises(re.error):
        re.compile(to_python(pattern))
