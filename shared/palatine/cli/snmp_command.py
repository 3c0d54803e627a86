"""`palatine snmp get|walk|mib`: a look at what an agent shows, without net-snmp; must never write anything by SNMP."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from palatine.cli.snmp_client import Address, Client, parse_address
from palatine.cli.snmp_names import Names, show_value
from palatine.codec import ber, snmp
from palatine.codec.snmp import Varbind, Version
from palatine.errors import PeerError, ProtocolError
from palatine.exits import FAILURE, OK, USAGE
from palatine.schema.notifications import DEFAULT_BASE

if TYPE_CHECKING:
    from palatine.cli.snmp_user_client import UserClient

_VARIABLE: Final = "PALATINE_SNMP_COMMUNITY"
_AUTH_VARIABLE: Final = "PALATINE_SNMP_AUTH"
_PRIV_VARIABLE: Final = "PALATINE_SNMP_PRIV"
_AUTHS: Final = ("sha", "sha224", "sha256", "sha384", "sha512")
_PRIVS: Final = ("aes128", "aes256", "aes256c")
_EXAMPLES: Final = """\
examples:
  palatine snmp walk localhost palInstanceTable
  palatine snmp get :2222 -c foo uwsgiRequests uwsgiCustom.40
  palatine snmp get localhost palInstanceRequests.shop palWorkerRequests.shop.1
  palatine snmp mib > PALATINE-MIB.txt

  palatine snmp walk localhost -u ops -n shop

Names are the MIB's (deploy/mibs) or numbers. With -u it asks by SNMPv3, with the passphrases in $PALATINE_SNMP_AUTH
and $PALATINE_SNMP_PRIV: an argument would be anybody's to read in ps.
Exit status: 0, 1 for a value there is not, 2 usage, 69 no agent, 75 no answer.
"""


def main(name: str, words: list[str]) -> int:
    """0 if everything asked for has a value."""
    parser = _parser(name)
    args, more = parser.parse_known_args(words)  # argparse takes optional names before options only
    if unknown := [word for word in more if word.startswith("-") or args.action == "mib"]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        base = ber.oid_arcs(ber.parse_oid(args.base))
        if args.action == "mib":
            return _print_file(base, exporter=args.exporter)
        names = Names(base)
        roots = [ber.oid_octets(names.resolve(each)) for each in [*args.names, *more]]
        address = parse_address(args.address)
    except (ProtocolError, ValueError) as error:
        sys.stderr.write(f"palatine {name} {args.action}: {error}\n")
        return USAGE
    with _client(address, args) as client:
        if args.action == "get":
            shown = [_print(names, varbind) for varbind in client.get(roots)]
            return OK if all(shown) else FAILURE
        found = 0
        for root in roots or [ber.oid_octets((1, 3))]:
            for varbind in client.walk(root):
                found += _print(names, varbind)
    if not found:
        sys.stderr.write(f"palatine {name} walk: there is nothing below that, or this community may not see it\n")
    return OK if found else FAILURE


def _client(address: Address, args: argparse.Namespace) -> "Client | UserClient":
    if not args.user:
        version = Version.V1 if args.v1 else Version.V2C
        return Client(address, os.fsencode(args.community), version, args.timeout, args.tries)
    try:
        from palatine.cli.snmp_user_client import User, UserClient
    except ImportError as error:
        raise PeerError(f"SNMPv3 needs {error.name}: pip install 'palatine[snmp-agent]'", "unavailable") from error
    auth, priv = (os.environ.get(name, "") for name in (_AUTH_VARIABLE, _PRIV_VARIABLE))
    user = User(args.user, args.auth, auth, args.priv, priv, args.context)
    return UserClient(address, user, args.timeout, args.tries)


def _print(names: Names, varbind: Varbind) -> bool:
    """Print a line; whether it is a value."""
    name, one = names.show(ber.oid_arcs(varbind.oid))
    sys.stdout.write(f"{name} = {show_value(varbind.value, one)}\n")
    return varbind.value[0] < snmp.NO_SUCH_OBJECT[0]


def _print_file(base: ber.Oid, *, exporter: bool) -> int:
    from palatine.schema.mib_exporter import exporter_text
    from palatine.schema.mib_file import mib_text

    sys.stdout.write((exporter_text if exporter else mib_text)(base))
    return OK


def _parser(name: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog=f"palatine {name}", description="Look at what an SNMP agent shows.", epilog=_EXAMPLES, formatter_class=raw
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--base", default=".".join(map(str, DEFAULT_BASE)), metavar="OID", help="where palatine's MIB is (%(default)s)"
    )
    asking = argparse.ArgumentParser(add_help=False, parents=[common])
    asking.add_argument("address", metavar="ADDRESS", help="HOST:PORT, :PORT or HOST (port 161)")
    asking.add_argument(
        "-c", "--community", default=os.environ.get(_VARIABLE, "public"), help=f"public, or ${_VARIABLE}, without"
    )
    asking.add_argument("--v1", action="store_true", help="ask by SNMPv1 instead of v2c")
    asking.add_argument("-u", "--user", default="", help="ask by SNMPv3 as this user")
    asking.add_argument(
        "-a", "--auth", choices=_AUTHS, default="sha256", help=f"how ${_AUTH_VARIABLE} is used (%(default)s)"
    )
    asking.add_argument(
        "-x", "--priv", choices=_PRIVS, default="aes128", help=f"how ${_PRIV_VARIABLE} is used (%(default)s)"
    )
    asking.add_argument("-n", "--context", default="", metavar="INSTANCE", help="one instance's own tree, by SNMPv3")
    asking.add_argument("--timeout", type=float, default=1.0, metavar="SECONDS", help="wait so long for a reply (1)")
    asking.add_argument("--tries", type=int, default=3, metavar="N", help="ask so often (3)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    getting = actions.add_parser("get", parents=[asking], help="the values of names")
    getting.add_argument("names", nargs="+", metavar="NAME")
    walking = actions.add_parser("walk", parents=[asking], help="everything below names; everything without one")
    walking.add_argument("names", nargs="*", metavar="NAME")
    printing = actions.add_parser("mib", parents=[common], help="print the MIB file")
    printing.add_argument("--exporter", action="store_true", help="a module for Prometheus' snmp_exporter instead")
    return parser
