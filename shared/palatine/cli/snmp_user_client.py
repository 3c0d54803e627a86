"""Asks an SNMP agent by v3, with pysnmp as the manager and the interface of `snmp_client.Client`. It sets nothing.

A client is an engine of pysnmp's, on the asyncio bridge of a trio run in a thread of its own: who the agent is and what
its time is are asked once, and not for every step of a walk.
"""

import queue
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Self

import trio
from pyasn1.codec.ber import encoder
from pysnmp.hlapi.v3arch import asyncio as hlapi

from palatine.asyncio_bridge import Bridge, open_bridge
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
    """A manager with one agent; for use within its `with` block."""

    _bridge: Bridge
    _over: trio.Event

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
        self._engine: Any = None
        self._opened: queue.SimpleQueue[trio.lowlevel.TrioToken] = queue.SimpleQueue()
        self._thread = threading.Thread(target=trio.run, args=(self._live,), name="snmp-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._token = self._opened.get()
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()

    async def _live(self) -> None:
        self._over = trio.Event()
        async with open_bridge() as self._bridge:
            self._opened.put(trio.lowlevel.current_trio_token())
            await self._over.wait()
            await self._bridge.run(self._close)

    def get(self, names: list[bytes]) -> tuple[Varbind, ...]:
        """The values of names. PeerError if there is no answer, or an error in it."""
        return self._ask(names, 0)

    def walk(self, root: bytes) -> Iterator[Varbind]:
        """All there is below a name, in order; PeerError as `get`, and for an agent that goes round in circles."""
        return walked(root, lambda name: self._ask([name], ROWS), self._where)

    def _ask(self, names: list[bytes], rows: int) -> tuple[Varbind, ...]:
        return trio.from_thread.run(self._bridge.run, self._asked, names, rows, trio_token=self._token)

    async def _asked(self, names: list[bytes], rows: int) -> tuple[Varbind, ...]:
        if self._engine is None:
            self._engine = hlapi.SnmpEngine()
        wanted = [hlapi.ObjectType(hlapi.ObjectIdentity(ber.format_oid(name))) for name in names]
        kind = hlapi.Udp6TransportTarget if ":" in self._address.host else hlapi.UdpTransportTarget
        target = await kind.create(self._address, timeout=self._seconds, retries=self._tries - 1)
        who = (self._engine, self._user, target, self._context)
        if rows:
            answer = await hlapi.bulk_cmd(*who, 0, rows, *wanted, lookupMib=False)
        else:
            answer = await hlapi.get_cmd(*who, *wanted, lookupMib=False)
        return self._varbinds(*answer)

    async def _close(self) -> None:
        if self._engine is not None:
            self._engine.close_dispatcher()

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
