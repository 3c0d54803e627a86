"""What a deploy message means, as uWSGI's zmq:// monitor reads it; pure, must never trust a part."""

from collections.abc import Sequence
from typing import TypeAlias

import attrs

from palatine.codec.emperor_pipe import CONFIG_BYTES
from palatine_emperor.command_line import is_valid_name
from palatine_emperor.settings import Settings

#: Parts of a message: command, name, config, uid, gid, socket.
MOST_PARTS = 6


@attrs.frozen
class Touch:
    """Create the vassal, or reload it; without `config` it is what it was, or a file in the emperor's directory."""

    name: str
    config: bytes | None = attrs.field(default=None, repr=False)
    uid: int | None = None
    gid: int | None = None
    socket: str = ""


@attrs.frozen
class Destroy:
    """Stop the vassal and forget it."""

    name: str


@attrs.frozen
class Refusal:
    """The message is not obeyed: a line for the log."""

    text: str


Command: TypeAlias = Touch | Destroy | Refusal


def read_message(parts: Sequence[bytes], settings: Settings) -> Command:
    """The command in a multipart message; an empty part counts as absent."""
    if len(parts) < 2:
        return Refusal("[emperor-zeromq] bad message received (command and instance name required)")
    if len(parts) > MOST_PARTS:
        return Refusal(f"[emperor-zeromq] bad message received ({len(parts)} parts, at most {MOST_PARTS} make sense)")
    try:
        texts = [part.decode() if number != 2 else "" for number, part in enumerate(parts)]
    except UnicodeDecodeError:
        return Refusal("[emperor-zeromq] bad message received (only the config may be other than UTF-8)")
    command, name, _, uid, gid, socket = texts + [""] * (MOST_PARTS - len(texts))
    config = parts[2] if len(parts) > 2 else b""
    if command not in {"touch", "destroy"}:
        return Refusal(f'[emperor-zeromq] unknown command "{_printable(command)}"')
    if not is_valid_name(name, settings.emperor_extra_extension):
        return Refusal(f'[emperor-zeromq] invalid instance name "{_printable(name)}"')
    if command == "destroy":
        return Destroy(name)
    if len(config) > CONFIG_BYTES:
        return Refusal(f"[emperor-zeromq] the config of {name} has more than {CONFIG_BYTES} bytes")
    if socket and not socket.isprintable():
        return Refusal(f'[emperor-zeromq] invalid socket "{_printable(socket)}" for {name}')
    touch = Touch(name, config or None, socket=socket)
    return _owned(touch, uid, gid, settings) if settings.emperor_tyrant else touch


def _owned(touch: Touch, uid: str, gid: str, settings: Settings) -> Command:
    """Under a tyrant a message says whom its vassal runs as; without one uWSGI ignores these parts, and so do we."""
    numbers = [int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else -1 for text in (uid, gid)]
    if min(numbers) < settings.min_uid:
        return Refusal(f"[emperor-tyrant] invalid permissions for vassal {touch.name} (uid and gid: {uid!r}, {gid!r})")
    return attrs.evolve(touch, uid=numbers[0], gid=numbers[1])


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:64])
