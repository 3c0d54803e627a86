"""Where everything listens and what to try, out of segments' labels; pure, must never connect to any of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from palatine.cli.found import Found

_REQUESTS_OID = "1.3.6.1.4.1.35156.17.1.1"


def listens(things: Iterable[Found]) -> list[str]:
    """A line for each address of each instance."""
    return [f"{thing.name} listens on {sock['name']} ({sock['kind']})" for thing in things for sock in _sockets(thing)]


def hints(things: Sequence[Found], own: Sequence[str]) -> list[str]:
    """What to try: the demo's `own` words if it has some, else one command for each kind of address there is."""
    if own:
        return list(own)
    seen = {sock["kind"]: sock["name"] for thing in reversed(things) for sock in reversed(_sockets(thing))}
    lines = []
    if "http" in seen:
        lines.append(f"curl http://{_here(seen['http'])}/")
    if "stats" in seen:
        lines.append(f"uwsgitop {_here(seen['stats'])}")
    if "snmp" in seen:
        lines.append(f"snmpget -v2c -c COMMUNITY {_here(seen['snmp'])} {_REQUESTS_OID}")
    if any(thing.name == "alarm-daemon" for thing in things):
        lines.append("palatine alarm list")
    return [*lines, "palatine status"]


def _sockets(thing: Found) -> list[Mapping[str, Any]]:
    """Sockets for requests (label `proto`), then those other daemons serve (label `kind`), as name and kind."""
    labelled = [*thing.labels.get("sockets", ()), *thing.labels.get("offers", ())]
    return [
        {"name": str(sock["name"]), "kind": str(sock.get("proto") or sock.get("kind"))}
        for sock in labelled
        if isinstance(sock, Mapping) and "name" in sock
    ]


def _here(address: str) -> str:
    """An address to connect to: all interfaces are also this machine's."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"", "0.0.0.0", "*"} else address
