"""Routing decided: `run` walks a table for one request. No I/O."""

import enum
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Final

from palatine_app_server.routing.route_grammar import Condition, Rule
from palatine_app_server.routing.route_steps import STEPS
from palatine_app_server.routing.route_walk import Walk, number


class End(enum.Enum):
    """How a table ended."""

    THROUGH = "through"  # the request goes on
    BREAK = "break"  # it ends here, with `reply` where there is one


def run(walk: Walk, rules: Sequence[Rule]) -> End:
    """Walk a table: `walk` has what comes of it."""
    start = 0  # where a goto leads
    for position, rule in enumerate(rules):
        if rule.label or position < start:
            continue
        walk.groups = ()
        if not _applies(walk, rule):
            continue
        step = STEPS[rule.action](walk, rule)
        if step == "continue":
            return End.THROUGH
        if step == "break":
            return End.BREAK
        if step == "goto":
            start = _target(rules, walk.expand(rule.argument))
            if start <= position:
                walk.log('[uwsgi-route] ERROR "goto" instruction can only jump forward (check your label !!!)')
                return End.BREAK
    return End.THROUGH


def _target(rules: Sequence[Rule], label: str) -> int:
    """The position of a label, or the number it is; 0 for one that is neither."""
    labels = {rule.label: at for at, rule in enumerate(rules) if rule.label}
    return labels.get(label, int(label) if label.isdigit() else 0)


def _applies(walk: Walk, rule: Rule) -> bool:
    if rule.pattern is not None:
        found = rule.pattern.search(walk.get(rule.subject))
        if found is None:
            return False
        walk.groups = (found[0], *(group or "" for group in found.groups()))
        return True
    if rule.condition is None:
        return True
    return _holds(walk, rule.condition) is not rule.condition.negated


def _holds(walk: Walk, condition: Condition) -> bool:
    if condition.name == "status":
        return str(walk.status) == condition.left
    if condition.name == "incache":
        from palatine_app_server.routing import route_extras  # loaded with the first worker that has such a rule

        return route_extras.in_cache(walk, condition.left)
    left = walk.expand(condition.left)
    if condition.name == "empty":
        return not left
    if condition.name == "regexp":
        found = re.search(condition.right, left)  # re keeps what it has compiled
        if found is None:
            return False
        walk.groups = (found[0], *(group or "" for group in found.groups()))
        return True
    if condition.name in _COMPARISONS:
        return _COMPARISONS[condition.name](left, walk.expand(condition.right))
    return walk.world.is_file(condition.name, left)


def _in_network(address: str, network: str) -> bool:
    try:
        there, net = ipaddress.ip_address(address), ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
    if net.version == 4 and isinstance(there, ipaddress.IPv6Address):
        there = there.ipv4_mapped or there  # who comes to a socket of both by IPv4 (RFC 4291 2.5.5.2)
    return there in net


_COMPARISONS: Final[dict[str, Callable[[str, str], bool]]] = {
    "equal": lambda left, right: left == right,
    "startswith": lambda left, right: left.startswith(right),
    "endswith": lambda left, right: left.endswith(right),
    "contains": lambda left, right: right in left,
    "higher": lambda left, right: number(left) > number(right),
    "higherequal": lambda left, right: number(left) >= number(right),
    "lower": lambda left, right: number(left) < number(right),
    "lowerequal": lambda left, right: number(left) <= number(right),
    "network": _in_network,
}
