"""Routing actions few configs have: caches, transforms of bodies, other servers. Text in, values out."""

import functools
from collections.abc import Mapping
from typing import Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.routing.upstream_address import Upstream


class Form(NamedTuple):
    """What an action takes: keys with the name each goes by, and those there must be."""

    keys: Mapping[str, str]
    needed: tuple[str, ...] = ()


def _form(keys: str, needed: str = "", **others: str) -> Form:
    return Form({**{key: key for key in keys.split()}, **others}, tuple(needed.split()))


_STORE: Final = _form("key name value expires", "key")
FORMS: Final[Mapping[str, Form]] = {
    "cache": _form("key name content_type content_encoding mime no_offload no_cl", "key", nocl="no_cl",
                   no_content_length="no_cl"),
    "cachevar": _form("key name var num", "key var", as_num="num"),
    "cacheset": _form("key name value expires", "key value"),
    "cachestore": _form("key name value expires gzip status", "key", code="status"),
    **dict.fromkeys(("cacheinc", "cachedec", "cachemul", "cachediv"), _STORE),
    "incache": _form("key name", "key"),
    "tofile": _form("filename mode", "filename", name="filename"),
    "hash": _form("key var items algo", "key var items"),
    "expires": _form("filename unix value", "", file="filename"),
}  # fmt: skip
#: Those that take no keys: nothing, or words between commas.
PLAIN: Final = frozenset({"gzip", "toupper", "template"})
SERVERS: Final = {"http": "http", "proxyhttp": "http", "httpdumb": "http", "uwsgi": "uwsgi", "proxyuwsgi": "uwsgi"}
HASHES: Final = frozenset({"djb33x", "murmur2", "random", "rand", "rr"})
SPELLINGS: Final = {"cache-store": "cachestore", "to-file": "tofile"}
#: What uWSGI has besides, and what to use instead.
REFUSED: Final = {
    **dict.fromkeys(("call", "rpc", "rpcret", "rpcblob", "rpcnext", "rpcraw", "rpcvar"), "use http: or uwsgi:"),
    **dict.fromkeys(("redis", "redis-continue", "redisstore", "redis-store", "memcached", "memcached-continue",
                     "memcachedstore", "memcached-store"), "use cache: and cachestore:"),
    **dict.fromkeys(("radius", "radius-next", "ldapauth", "ldapauth-next", "spnego", "spnego-next"),
                    "use basicauth:, or the front end's authentication"),
    **dict.fromkeys(("httpconnect", "proxyhttpconnect"), "use a forward proxy"),
    **dict.fromkeys(("cache-continue", "symcall", "symcall-next", "sethome", "setfile", "cgi", "cgihelper"),
                    "use the app"),
    **dict.fromkeys(("xslt", "toxslt", "ssi", "xmldir", "gridfs"), "use the app"),
    "access": "use route-remote-addr or ipv4in",
}  # fmt: skip


def check(word: str, argument: str) -> None:
    """ConfigError for an action that could never be done."""
    if word in SERVERS:
        server(word, argument)
    elif word in FORMS:
        given = keys(word, argument)
        if "@" in given.get("name", "") and word.startswith(("cache", "incache")):
            raise ConfigError(f"{argument!r}: caches of other servers are not reached: use a shared cache server")
        if word == "hash" and given.get("algo", "djb33x") not in HASHES:
            raise ConfigError(f'unable to find hash algo "{given["algo"]}"')


@functools.lru_cache(maxsize=1024)
def keys(word: str, argument: str) -> Mapping[str, str]:
    """`key=value,key=value` by the keys' own names; ConfigError."""
    form = FORMS[word]
    found: dict[str, str] = {}
    for item in argument.split(",") if argument else ():
        key, equals, value = item.partition("=")
        if not equals or key not in form.keys:
            raise ConfigError(f"{argument!r}: {word} takes {', '.join(form.keys)}, not {item!r}")
        found[form.keys[key]] = value
    missing = [key for key in form.needed if not found.get(key)]
    if missing:
        raise ConfigError(f"{argument!r}: {word} needs {' and '.join(missing)}")
    return found


@functools.lru_cache(maxsize=1024)
def server(word: str, argument: str) -> Upstream:
    """The server an action passes requests on to; its address may hold variables still. ConfigError."""
    words = argument.split(",", 2 if SERVERS[word] == "http" else 3)
    if SERVERS[word] == "http":
        address, host, uri = (*words, "", "")[:3]
        if not address:
            raise ConfigError(f"{argument!r}: {word} takes address[,host[,uri]]")
        return Upstream(address, "http", host, uri)
    if len(words) < 3 or not all(each.isascii() and each.isdigit() and int(each) < 256 for each in words[1:3]):
        raise ConfigError(f"{argument!r}: {word} takes address,modifier1,modifier2[,app]")
    if not words[0] and words[1] != "0":
        raise ConfigError(f"{argument!r}: only Python apps (modifier 0) are served here")
    return Upstream(words[0], "uwsgi", modifiers=(int(words[1]), int(words[2])), app="".join(words[3:]))
