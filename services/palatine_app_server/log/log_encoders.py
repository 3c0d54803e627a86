"""Log encoders: what a line becomes before it is written. Pure but for the clock in `${unix}` and its kin.

Names and arguments are uWSGI's: prefix, suffix, nl, format, json, gzip, compress.
"""

import json
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.log.log_grammar import Encoder, Variable, parse_template

Encode = Callable[[bytes], bytes]
_Part = Callable[[bytes], bytes]


class Chain(NamedTuple):
    """The encoders of one kind of line, in order: (the logger it is for, "" for the unnamed ones, what it does)."""

    steps: tuple[tuple[str, Encode], ...] = ()

    def encode(self, logger: str, data: bytes) -> bytes:
        """`data` as `logger` gets it: encoders for other loggers leave it alone."""
        for wanted, step in self.steps:
            if not wanted or wanted == logger:
                data = step(data)
        return data


def chain(encoders: Sequence[Encoder]) -> Chain:
    """The encoders a config asks for; ConfigError for an unknown one."""
    return Chain(tuple((encoder.logger, encode_by(encoder)) for encoder in encoders))


def encode_by(encoder: Encoder) -> Encode:
    """What one encoder does."""
    given = encoder.arguments.encode("utf-8", "surrogateescape")
    simple: dict[str, Encode] = {
        "prefix": lambda data: given + data,
        "suffix": lambda data: data + given,
        "nl": lambda data: data + b"\n",
        "gzip": lambda data: _packed(data, 31),
        "compress": lambda data: _packed(data, 15),
    }
    if encoder.plugin in simple:
        return simple[encoder.plugin]
    if encoder.plugin in {"format", "json"}:
        return _template(encoder.arguments, _json_text if encoder.plugin == "json" else _as_it_is)
    raise ConfigError(f'log encoder "{encoder.plugin}" not found')


def _template(text: str, quote: Callable[[bytes], bytes]) -> Encode:
    parts: list[_Part] = [
        _variable(part.name, quote) if isinstance(part, Variable) else _literal(part) for part in parse_template(text)
    ]

    def encode(data: bytes) -> bytes:
        return b"".join([part(data) for part in parts])

    return encode


def _literal(text: str) -> _Part:
    shown = text.encode("utf-8", "surrogateescape")
    return lambda _data: shown


def _variable(name: str, quote: Callable[[bytes], bytes]) -> _Part:
    if name.startswith("strftime:"):
        form = name.removeprefix("strftime:")
        return lambda _data: quote(time.strftime(form).encode())
    if name == "msg":
        return lambda data: quote(data.removesuffix(b"\n"))
    if name == "msgnl":
        return quote
    return _CLOCKS.get(name, lambda _data: b"")


_CLOCKS: Final[dict[str, _Part]] = {
    "unix": lambda _data: b"%d" % time.time(),
    "millis": lambda _data: b"%d" % (time.time_ns() // 1_000_000),
    "micros": lambda _data: b"%d" % (time.time_ns() // 1000),
}


def _as_it_is(data: bytes) -> bytes:
    return data


def _json_text(data: bytes) -> bytes:
    """`data` inside a JSON string: valid JSON whatever an app prints."""
    return json.dumps(data.decode("utf-8", "replace"), ensure_ascii=False)[1:-1].encode()


def _packed(data: bytes, window_bits: int) -> bytes:
    import zlib  # a master without such an encoder does without

    packer = zlib.compressobj(wbits=window_bits)
    return packer.compress(data) + packer.flush()
