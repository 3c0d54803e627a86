"""Delivers a `curl:http://` alarm; it must never outwait the alarm's timeouts or follow redirects."""

from typing import Final

import httpx
import trio

from palatine import __version__
from palatine_alarm_daemon.curl_options import Curl, address
from palatine_alarm_daemon.delivery_policy import Failed, Succeeded
from palatine_alarm_daemon.reasons import reason_of

#: What is read of an answer, so that its connection can be used again.
_READ_BYTES: Final = 64 * 1024
#: Answers that mean "not now". uWSGI took every answer for a success; these lose the alarm.
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class Web:
    """HTTP clients, one that verifies certificates and one that does not; connections are kept and shared."""

    def __init__(self) -> None:
        self._clients: dict[bool, httpx.AsyncClient] = {}

    async def deliver(self, curl: Curl, message: bytes, ident: str) -> Succeeded | Failed:
        """One attempt; `ident` lets a receiver know a repeated one."""
        try:
            with trio.fail_after(curl.timeout):
                status = await self._send(curl, message, ident)
        except trio.TooSlowError:
            return Failed(f"no answer after {curl.timeout:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Failed(reason_of(error))
        except (httpx.InvalidURL, httpx.CookieConflict, ValueError) as error:
            return Failed(reason_of(error), lasting=True)
        if status in _TRY_AGAIN:
            return Failed(f"answered {status}")
        return Succeeded(f"answered {status}" if status >= 400 else "")

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _send(self, curl: Curl, message: bytes, ident: str) -> int:
        client = self._client(verify=curl.verify)
        async with client.stream(
            curl.method,
            address(curl),
            content=curl.text(message),
            headers={"Accept": "*/*", "Idempotency-Key": ident},
            auth=httpx.BasicAuth(curl.user, curl.password) if curl.user else None,
            timeout=httpx.Timeout(curl.timeout, connect=curl.connect_timeout),
            follow_redirects=False,
        ) as answer:
            read = 0
            async for chunk in answer.aiter_raw():
                read += len(chunk)
                if read > _READ_BYTES:
                    break
            return answer.status_code

    def _client(self, *, verify: bool) -> httpx.AsyncClient:
        client = self._clients.get(verify)
        if client is None:
            client = self._clients[verify] = httpx.AsyncClient(
                verify=verify, headers={"User-Agent": f"palatine-alarm-daemon/{__version__}"}
            )
        return client
