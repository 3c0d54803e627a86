"""uWSGI's mongodb pusher: inserts the stats document, by a connection each time as uWSGI does; nothing else.

Runs in the daemon's asyncio loop. pymongo's own asynchronous client, because motor is past its end of life.
"""

import json
from typing import Any, Final

import trio
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from palatine.errors import PalatineError
from palatine_stats_exporter.push.retry_policy import Failed, Outcome, Sent
from palatine_stats_exporter.push.turns import Turn
from palatine_stats_exporter.push.uwsgi_formats import Wish

#: Seconds for finding the server and for the insert: uWSGI's socket-timeout.
_SECONDS: Final = 4


class MongoDb:
    """One collection of one server."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    async def push(self, turn: Turn) -> Outcome:
        """Insert one document."""
        try:
            document = json.loads(turn.document(self._wish))
            with trio.fail_after(2 * _SECONDS):
                await turn.to_asyncio(_insert, self._wish.address, self._wish.collection, document)
        except trio.TooSlowError:
            return Failed(f"no answer after {2 * _SECONDS} s")
        except (OSError, OverflowError, PalatineError, PyMongoError) as error:
            return Failed(str(error).partition(", Timeout")[0])
        return Sent()

    def close(self) -> None:
        """Nothing is kept."""


async def _insert(address: str, collection: str, document: dict[str, Any]) -> None:
    database, _, name = collection.partition(".")
    milliseconds = _SECONDS * 1000
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        f"mongodb://{address}/", serverSelectionTimeoutMS=milliseconds, socketTimeoutMS=milliseconds, appname="palatine"
    )
    try:
        await client[database][name].insert_one(document)
    finally:
        await client.close()
