"""What the agent counts: its row in the daemon's segment, and who asked how much; must never grow with its peers."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import attrs

from palatine.codec.snmp import ErrorStatus
from palatine_snmp_agent.rate_policy import Rate, refilled
from palatine_snmp_agent.responder import BAD_COMMUNITY, MALFORMED, Verdict
from palatine_snmp_agent.usm_gate import NOT_AUTHENTIC

#: Sources remembered, the ones heard from most recently.
MAX_SOURCES: Final = 1024

#: Counter of an error-status the agent may send; the others are not in SNMPv2-MIB's group.
_STATUS_FIELDS: Final = {
    int(ErrorStatus.TOO_BIG): "out_too_bigs",
    int(ErrorStatus.NO_SUCH_NAME): "out_no_such_names",
    int(ErrorStatus.GEN_ERR): "out_gen_errs",
}

#: Counters of messages that are not authentic: RFC 3418, authenticationFailure.
_STRANGERS: Final = NOT_AUTHENTIC | {BAD_COMMUNITY}


@attrs.define
class Source:
    """Datagrams of one host: all of them; those answered; with a wrong community, or user, key or passphrase; no SNMP.

    `throttled` are those not looked at; `tokens` is how many more it may send at once, None before the first, and
    `known_tokens` how many of those that prove who they are from, when others in its name have used up the first.
    """

    datagrams: int = 0
    replies: int = 0
    bad_communities: int = 0
    bad_users: int = 0
    malformed: int = 0
    throttled: int = 0
    last_seen: float = 0.0
    tokens: float | None = None
    known_tokens: float | None = None
    known_seen: float = 0.0


class Sources:
    """Statistics per host, of the `limit` hosts heard from most recently."""

    def __init__(self, limit: int = MAX_SOURCES) -> None:
        self._limit = limit
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self.forgotten = 0
        #: What each source may send.
        self.rate = Rate()

    def admit(self, host: str, now: float) -> bool:
        """Whether any datagram of `host` may be looked at. `now` is unix time."""
        source = self._sources.get(host) or self._remember(host)
        if source.tokens is not None and now == source.last_seen and source.tokens >= 1:
            source.tokens -= 1
            return True  # one of many that are handled together: no time has passed
        tokens = refilled(self.rate, source.tokens, now - source.last_seen)
        source.last_seen = now
        source.tokens = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1

    def admit_known(self, host: str, now: float) -> bool:
        """Whether one may that proves to be of somebody we know, after `admit` has refused it."""
        source = self._sources.get(host) or self._remember(host)
        tokens = refilled(self.rate, source.known_tokens, now - source.known_seen)
        source.known_seen = now
        source.known_tokens = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1

    def refuse(self, host: str) -> None:
        """Count a datagram of `host` that is not looked at."""
        source = self._sources.get(host) or self._remember(host)
        source.datagrams += 1
        source.throttled += 1
        self._sources.move_to_end(host)

    def note(self, host: str, verdict: Verdict, now: float) -> None:
        """Count one datagram of `host`; `now` is unix time."""
        source = self._sources.get(host)
        if source is None:
            source = self._remember(host)
        else:
            self._sources.move_to_end(host)
        source.datagrams += 1
        source.last_seen = now
        counter, reply, _, _ = verdict
        if reply is not None:
            source.replies += 1
        elif counter == BAD_COMMUNITY:
            source.bad_communities += 1
        elif counter == MALFORMED:
            source.malformed += 1
        if counter in NOT_AUTHENTIC:
            source.bad_users += 1

    def _remember(self, host: str) -> Source:
        if len(self._sources) >= self._limit:
            self._sources.popitem(last=False)
            self.forgotten += 1
        source = self._sources[host] = Source()
        return source

    def statistics(self) -> dict[str, dict[str, Any]]:
        """By host, the latest first; JSON-able."""
        return {host: attrs.asdict(source, filter=_shown) for host, source in reversed(self._sources.items())}


def _shown(attribute: "attrs.Attribute[Any]", _: Any) -> bool:
    return attribute.name not in {"tokens", "known_tokens", "known_seen"}


class Tally:
    """Counts into the words of table `agent`; `word` gives the place of a field in `cells`."""

    def __init__(self, cells: memoryview, word: Callable[[str], int]) -> None:
        self.sources = Sources()
        self._cells = cells
        self._word = word
        self._in = word("in_pkts")
        self._out = word("out_pkts")
        self._responses = word("out_get_responses")
        self._names = word("in_total_req_vars")
        self._statuses = {status: word(field) for status, field in _STATUS_FIELDS.items()}
        self._words: dict[str, int] = {}
        #: Called with the host of every message that is not authentic.
        self.on_stranger: Callable[[str], None] = lambda _: None

    def admit(self, host: str, now: float, proven: Callable[[], bool] = lambda: False) -> bool:
        """Whether a datagram of `host` may be looked at; one of a host that asks too fast is only counted.

        `proven` looks whether it is of somebody we know: who sends in the name of a manager must not silence him.
        """
        if self.sources.admit(host, now) or (proven() and self.sources.admit_known(host, now)):
            return True
        self.sources.refuse(host)
        self._cells[self._in] += 1
        self.add("throttled")
        return False

    def note(self, host: str, verdict: Verdict, now: float) -> None:
        """Count a datagram and what became of it."""
        counter, reply, status, names = verdict
        cells = self._cells
        cells[self._in] += 1
        word = self._words.get(counter)
        if word is None:
            word = self._words[counter] = self._word(counter)
        cells[word] += 1
        if reply is not None:
            cells[self._out] += 1
            cells[self._responses] += 1
            cells[self._names] += names
            if status and status in self._statuses:
                cells[self._statuses[status]] += 1
        self.sources.note(host, verdict, now)
        if counter in _STRANGERS:
            self.on_stranger(host)

    def add(self, field: str, count: int = 1) -> None:
        """Count something that is no SNMP datagram; a negative `count` takes back what a level had."""
        self._cells[self._word(field)] += count
