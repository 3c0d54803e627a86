"""What the actions of `route_extra_grammar` do to a walk. Loaded by a worker whose config has one."""

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from palatine_app_server.routing import body_transforms, route_extra_grammar
from palatine_app_server.routing.body_transforms import Transform
from palatine_app_server.routing.route_grammar import Rule
from palatine_app_server.routing.route_walk import Reply, Walk, header_text, number

_MASK: Final = 0xFFFFFFFF


def run(walk: Walk, rule: Rule) -> str:
    """Do what `rule` says; how the walk goes on."""
    word = route_extra_grammar.SPELLINGS.get(rule.word, rule.word)
    if word in route_extra_grammar.SERVERS:
        return _forward(walk, rule)
    return _STEPS[word](walk, rule)


def in_cache(walk: Walk, argument: str) -> bool:
    """The condition `incache`."""
    given = route_extra_grammar.keys("incache", argument)
    return walk.world.cached(walk.expand(given["key"]), given.get("name", "")) is not None


def _given(walk: Walk, rule: Rule) -> dict[str, str]:
    word = route_extra_grammar.SPELLINGS.get(rule.word, rule.word)
    return {key: walk.expand(value) for key, value in route_extra_grammar.keys(word, rule.argument).items()}


def _forward(walk: Walk, rule: Rule) -> str:
    server = route_extra_grammar.server(rule.word, rule.argument)
    if not server.address:  # uwsgi:,0,0: this server itself
        return "continue"
    walk.upstream = server._replace(
        address=walk.expand(server.address), host=header_text(walk.expand(server.host)), uri=walk.expand(server.uri)
    )
    return "break"


def _cache(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    value = walk.world.cached(given["key"], given.get("name", ""))
    if value is None:
        return "next"
    kind = (walk.world.value("mime", given["key"]) if "mime" in given else "") or given.get("content_type", "text/html")
    headers = [("Content-Type", header_text(kind))]
    if given.get("content_encoding"):
        headers.append(("Content-Encoding", header_text(given["content_encoding"])))
    if "no_cl" not in given:
        headers.append(("Content-Length", str(len(value))))
    expiry = walk.world.expiry(given["key"], given.get("name", ""))
    if expiry:
        headers.append(("Expires", walk.world.value("date", str(expiry))))
    walk.reply = Reply("200 OK", tuple(headers), value)
    return "break"


def _cache_variable(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    value = walk.world.cached(given["key"], given.get("name", ""))
    if value is not None:
        if "num" in given:
            text = str(int.from_bytes(value, "little", signed=True) if len(value) == 8 else 0)
        else:
            text = value.decode("latin-1")
        walk.set(given["var"], text)
    return "next"


def _cache_set(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    value = given["value"].encode("latin-1", "replace")
    walk.world.cache("set", given["key"], value, number(given.get("expires", "")), given.get("name", ""))
    return "next"


def _cache_number(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    verb = rule.word.removeprefix("cache")
    by = number(given["value"]) if "value" in given else 1 if verb in {"inc", "dec"} else 2
    walk.world.cache(verb, given["key"], by, number(given.get("expires", "")), given.get("name", ""))
    return "next"


def _cache_store(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    world, expires, name = walk.world, number(given.get("expires", "")), given.get("name", "")

    def keep(body: bytes) -> None:
        value = given["value"].encode("latin-1", "replace") if "value" in given else body
        world.cache("update", given["key"], value, expires, name)
        if given.get("gzip"):
            packer = body_transforms.Gzip()
            world.cache("update", given["gzip"], packer.feed(value) + packer.finish(200), expires, name)

    walk.transforms.append(body_transforms.Copy(number(given.get("status", "")), keep))
    return "next"


def _transform(make: Callable[[Walk], Transform], walk: Walk, _rule: Rule) -> str:
    walk.transforms.append(make(walk))
    return "next"


def _to_file(walk: Walk, rule: Rule) -> str:
    path = walk.world.path(_given(walk, rule)["filename"])
    if "\0" in path or ".." in path.split("/"):  # of a request's variables, where the rule has some
        walk.world.say(f"[uwsgi-route] tofile: {path!r} leads elsewhere")
    else:
        walk.transforms.append(body_transforms.ToFile(path, walk.world.say))
    return "next"


def _expires(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    since = walk.world.modified(given["filename"]) if "filename" in given else number(given.get("unix", ""))
    if since is None:
        return "break"
    walk.add.append(("Expires", walk.world.value("date", str(since + number(given.get("value", ""))))))
    return "next"


def _hash(walk: Walk, rule: Rule) -> str:
    given = _given(walk, rule)
    items = [item for item in given["items"].split(";") if item]
    key = given["key"].encode("latin-1", "replace")
    algorithm = given.get("algo", "djb33x")
    chosen = walk.world.turn() if algorithm == "rr" else _HASHES[algorithm](key)
    if items:
        walk.set(given["var"], items[chosen % len(items)])
    return "next"


def djb33x(key: bytes) -> int:
    """UWSGI's default hash."""
    value = 5381
    for byte in key:
        value = (value * 33 ^ (byte if byte < 128 else byte - 256)) & _MASK  # its chars are signed
    return value


def murmur2(key: bytes) -> int:
    """MurmurHash 2 with a seed of 0, as uWSGI has it."""
    factor = 0x5BD1E995
    value, size = len(key), len(key)
    whole = size - size % 4
    for at in range(0, whole, 4):
        part = int.from_bytes(key[at : at + 4], "little") * factor & _MASK
        part = (part ^ part >> 24) * factor & _MASK
        value = value * factor & _MASK ^ part
    if whole < size:
        # the rest is not the key's last bytes but, as uWSGI's own slip has it, its first
        for at in range(size - whole):
            value = (value ^ (key[at] if key[at] < 128 else key[at] - 256) << 8 * at) & _MASK
        value = value * factor & _MASK
    value = (value ^ value >> 13) * factor & _MASK
    return value ^ value >> 15


def _random(_key: bytes) -> int:
    return random.randrange(_MASK)  # noqa: S311 - it spreads load, nothing is to be guessed


_HASHES: Final[dict[str, Callable[[bytes], int]]] = {
    "djb33x": djb33x, "murmur2": murmur2, "random": _random, "rand": _random,
}  # fmt: skip
_STEPS: Final[dict[str, Callable[[Walk, Rule], str]]] = {
    "cache": _cache, "cachevar": _cache_variable, "cacheset": _cache_set, "cachestore": _cache_store,
    **dict.fromkeys(("cacheinc", "cachedec", "cachemul", "cachediv"), _cache_number),
    "gzip": partial(_transform, lambda _walk: body_transforms.Gzip()),
    "toupper": partial(_transform, lambda _walk: body_transforms.Upper()),
    "template": partial(_transform, lambda walk: body_transforms.Template(walk.expander())),
    "tofile": _to_file, "hash": _hash, "expires": _expires,
}  # fmt: skip
