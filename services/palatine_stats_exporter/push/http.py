"""POST to one server and say what became of it: connections are kept, waits bounded, no failure is raised."""

import gzip
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio

from palatine import __version__
from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent, outcome_of_status

#: What is read of an answer that says why.
_REASON_BYTES: Final = 400
_USER_AGENT: Final = f"palatine-stats-exporter/{__version__}"


def _no_remark(_: bytes) -> str:
    return ""


class Http:
    """One server, by http://, https:// or unix://; `remark` finds in an accepting answer what is less than perfect."""

    def __init__(
        self,
        url: str,
        timeout: float,
        headers: Mapping[str, str],
        auth: httpx.BasicAuth | None = None,
        remark: Callable[[bytes], str] = _no_remark,
    ) -> None:
        found = urlsplit(url)
        transport = httpx.AsyncHTTPTransport(uds=found.path) if found.scheme == "unix" else None
        self._base = "http://localhost" if found.scheme == "unix" else url.rstrip("/")
        self._timeout = timeout
        self._remark = remark
        self._client = httpx.AsyncClient(
            transport=transport, headers={"User-Agent": _USER_AGENT, **headers}, auth=auth, timeout=timeout
        )

    async def post(self, path: str, params: Mapping[str, str], body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST below the server's URL."""
        try:
            with trio.fail_after(self._timeout):
                answer = await self._client.post(
                    f"{self._base}{path}", params=dict(params) or None, content=body, headers=dict(headers)
                )
        except trio.TooSlowError:
            return Failed(f"no answer after {self._timeout:g} s")
        except (httpx.HTTPError, OSError) as error:
            return Failed(str(error) or type(error).__name__)
        if answer.is_success:
            return Sent(self._remark(answer.content))
        return outcome_of_status(answer.status_code, answer.content[:_REASON_BYTES].decode("utf-8", "replace").strip())

    async def post_gzip(
        self, path: str, params: Mapping[str, str], batch: bytes, kind: str, *, compressed: bool
    ) -> Outcome:
        """POST a batch, which is gzip, as it is or plain."""
        headers = {"Content-Type": kind, **({"Content-Encoding": "gzip"} if compressed else {})}
        return await self.post(path, params, batch if compressed else gzip.decompress(batch), headers)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
