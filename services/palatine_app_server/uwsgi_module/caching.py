"""The caches: `uwsgi.cache_get` and its kin, straight on shared memory; no process is asked."""

import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

from palatine.counters.cache import Cache, Outcome
from palatine_app_server.system import own_lines
from palatine_app_server.uwsgi_module import arguments


class Caching:
    """Calls on the caches by name, the first of them where none is named; `quiet` are those with ignore_full."""

    def __init__(self, caches: Mapping[str, Cache], quiet: frozenset[str]) -> None:
        self._caches = dict(caches)
        self._quiet = quiet

    def functions(self) -> dict[str, Any]:
        """What the module offers."""
        return {
            "cache_get": self._get,
            "cache_set": self._setter("cache_set", update=False),
            "cache_update": self._setter("cache_update", update=True),
            "cache_del": self._delete,
            "cache_exists": self._exists,
            "cache_clear": self._clear,
            "cache_inc": self._changer("cache_inc", operator.add),
            "cache_dec": self._changer("cache_dec", operator.sub),
            "cache_mul": self._changer("cache_mul", operator.mul),
            "cache_div": self._changer("cache_div", arguments.divided),
            "cache_num": self._number,
            "cache_keys": self._keys,
            "_cache_expiry": self._expiry,  # for routes
        }

    def _named(self, name: str | None) -> tuple[str, Cache] | None:
        if name is not None and "@" in arguments.text(name, "cache"):
            raise NotImplementedError(
                "caches of other servers are not reached by name@address: use a shared cache server"
            )
        if not name:
            return next(iter(self._caches.items()), None)
        cache = self._caches.get(name)
        return None if cache is None else (name, cache)

    def _get(self, key: str | bytes, cache: str | None = None) -> bytes | None:
        found = self._named(cache)
        wanted = arguments.data(key, "cache_get")
        return found[1].get(wanted, int(time.time())) if found else None

    def _expiry(self, key: bytes, cache: str | None) -> int:
        found = self._named(cache)
        return found[1].expiry(key, int(time.time())) if found else 0

    def _setter(self, function: str, *, update: bool) -> Callable[..., bool | None]:
        def store(key: str | bytes, value: str | bytes, expires: int = 0, cache: str | None = None) -> bool | None:
            found = self._named(cache)
            name, content = arguments.data(key, function), arguments.data(value, function, 2)
            seconds = arguments.long(expires)
            if not found:
                return None
            return self._told(found[0], found[1].store(name, content, seconds, int(time.time()), update=update))

        return store

    def _changer(self, function: str, operation: Callable[[int, int], int]) -> Callable[..., bool | None]:
        def change(key: str | bytes, by: int = 1, expires: int = 0, cache: str | None = None) -> bool | None:
            found = self._named(cache)
            name, delta, seconds = arguments.data(key, function), arguments.long(by), arguments.long(expires)
            if not found:
                return None
            now = int(time.time())
            return self._told(found[0], found[1].change(name, lambda number: operation(number, delta), seconds, now))

        return change

    def _told(self, name: str, outcome: Outcome) -> bool | None:
        if outcome in {Outcome.PURGED, Outcome.FULL} and name not in self._quiet:
            purged = outcome is Outcome.PURGED
            own_lines.say(
                f'LRU item will be purged from cache "{name}"'
                if purged
                else f'*** DANGER cache "{name}" is FULL !!! ***'
            )
        return True if outcome in {Outcome.STORED, Outcome.PURGED} else None

    def _delete(self, key: str | bytes, cache: str | None = None) -> bool | None:
        found = self._named(cache)
        wanted = arguments.data(key, "cache_del")
        return True if found and found[1].delete(wanted, int(time.time())) else None

    def _exists(self, key: str | bytes, cache: str | None = None) -> bool | None:
        found = self._named(cache)
        wanted = arguments.data(key, "cache_exists")
        return True if found and found[1].exists(wanted, int(time.time())) else None

    def _clear(self, cache: str | None = None) -> bool | None:
        found = self._named(cache)
        if not found:
            return None
        found[1].clear(int(time.time()))
        return True

    def _number(self, key: str | bytes, cache: str | None = None) -> int:
        value = self._get(key, cache)
        return int.from_bytes(value, "little", signed=True) if value is not None and len(value) == 8 else 0

    def _keys(self, cache: str | None = None) -> list[bytes]:
        found = self._named(cache)
        if not found:
            raise ValueError("no local uWSGI cache available")
        return found[1].keys(int(time.time()))
