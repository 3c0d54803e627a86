"""Whatever an app's config holds: an alarm option reads as a value or is a ConfigError, and the prefilter answers."""

import re
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from palatine.codec.alarm_grammar import Prefilter, Rule, parse_alarm, parse_alarm_fd, parse_rule
from palatine.codec.alarm_regexp import required_literals
from palatine.errors import ConfigError

pieces = st.sampled_from(
    [*"()[]{}|*+?.^$\\-,:=!<>#&0123456789abExQPNxk \n\x00é", "(?", "[[:", "(*", "\\x", "\\Q", "(?<"]
)
soup = st.one_of(st.text(), st.lists(pieces, max_size=40).map("".join))


@settings(max_examples=500)
@given(value=soup)
def test_options_read_or_are_config_errors(value: str) -> None:
    for parse in (parse_alarm, lambda text: parse_rule(text, negate=False), parse_alarm_fd):
        with suppress(ConfigError):
            parse(value)


@settings(max_examples=1000)
@given(regexp=soup, text=st.binary(max_size=60))
def test_the_prefilter_never_disagrees_with_a_plain_reader(regexp: str, text: bytes) -> None:
    pattern = regexp.encode("utf-8", "surrogateescape")
    prefilter = Prefilter([Rule(("a",), regexp)])
    may_match = prefilter.may_match(text)
    if required_literals(pattern) is None:
        assert may_match
    elif re.escape(pattern) == pattern:
        assert may_match == (pattern in text)
