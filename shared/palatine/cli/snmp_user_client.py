"""Asks an SNMP agent by v3, with pysnmp as the manager and the interface of `snmp_client.Client`. It sets nothing."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

import trio
from pyasn1.codec.ber import encoder
from pysnmp.hlapi.v3arch import asyncio as hlapi

from palatine.asyncio_bridge import open_bridge
from palatine.cli.snmp_client import ROWS, Address, walked
from palatine.codec import ber
from palatine.codec.snmp import Varbind
from palatine.errors import DeadlineError, PeerError

AUTH: Final = {
    "sha": hlapi.USM_AUTH_HMAC96_SHA,
    "sha224": hlapi.USM_AUTH_HMAC128_SHA224,
    "sha256": hlapi.USM_AUTH_HMAC192_SHA256,
    "sha384": hlapi.USM_AUTH_HMAC256_SHA384,
    "sha512": hlapi.USM_AUTH_HMAC384_SHA512,
}
PRIV: Final = {
    "aes128": hlapi.USM_PRIV_CFB128_AES,
    "aes256": hlapi.USM_PRIV_CFB256_AES_BLUMENTHAL,
    "aes256c": hlapi.USM_PRIV_CFB256_AES,
}


class User(NamedTuple):
    """Who asks: names of protocols as in the agent's settings; without a passphrase that protection is not used."""

    name: str
    auth: str
    auth_passphrase: str
    priv: str
    priv_passphrase: str
    context: str


class UserClient:
    """A manager with one agent."""

    def __init__(self, address: Address, user: User, seconds: float, tries: int) -> None:
        self._address = address
        self._where = f"{address.host}:{address.port}"
        self._seconds = seconds
        self._tries = tries
        self._context = hlapi.ContextData(contextName=user.context.encode())
        self._user = hlapi.UsmUserData(
            user.name,
            user.auth_passphrase or None,
            user.priv_passphrase or None,
            AUTH[user.auth] if user.auth_passphrase else hlapi.USM_AUTH_NONE,
            PRIV[user.priv] if user.priv_passphrase else hlapi.USM_PRIV_NONE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open between questions."""

    def get(self, names: list[bytes]) -> tuple[Varbind, ...]:
        """The values of names. PeerError if there is no answer, or an error in it."""
        return trio.run(self._ask, names, 0)

    def walk(self, root: bytes) -> Iterator[Varbind]:
        """All there is below a name, in order; PeerError as `get`, and for an agent that goes round in circles."""
        return walked(root, lambda name: trio.run(self._ask, [name], ROWS), self._where)

    async def _ask(self, names: list[bytes], rows: int) -> tuple[Varbind, ...]:
        async with open_bridge() as bridge:
            return await bridge.run(self._asked, names, rows)

    async def _asked(self, names: list[bytes], rows: int) -> tuple[Varbind, ...]:
        wanted = [hlapi.ObjectType(hlapi.ObjectIdentity(ber.format_oid(name))) for name in names]
        engine = hlapi.SnmpEngine()
        kind = hlapi.Udp6TransportTarget if ":" in self._address.host else hlapi.UdpTransportTarget
        try:
            target = await kind.create(self._address, timeout=self._seconds, retries=self._tries - 1)
            who = (engine, self._user, target, self._context)
            if rows:
                answer = await hlapi.bulk_cmd(*who, 0, rows, *wanted, lookupMib=False)
            else:
                answer = await hlapi.get_cmd(*who, *wanted, lookupMib=False)
        finally:
            engine.close_dispatcher()
        return self._varbinds(*answer)

    def _varbinds(self, trouble: Any, status: Any, index: Any, answered: Any) -> tuple[Varbind, ...]:
        if trouble:
            if "timeout" in str(trouble).lower() or "no snmp response" in str(trouble).lower():
                raise DeadlineError(f"no answer from {self._where} within {self._tries} times {self._seconds:g} s")
            raise PeerError(f"{self._where} refuses: {trouble}", "refused")
        if int(status):
            raise PeerError(f"{self._where} answers {status.prettyPrint()} (name {int(index)})", "refused")
        return tuple(
            Varbind(ber.parse_oid(".".join(map(str, tuple(name)))), encoder.encode(value)) for name, value in answered
        )
