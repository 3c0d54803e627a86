"""The http router's options, which here are about the workers' own HTTP sockets; ConfigError names the line."""

from typing import Final, NamedTuple

from palatine.config import Config, Option
from palatine_app_server.config.values import pair

#: Sockets of the router, as opposed to `http-socket`: the router's own switches are about these.
ROUTER: Final = ("http", "https", "https2", "http-to-https")
#: A modifier other than these is another language's.
_MODIFIERS: Final = ("http-modifier1", "http-modifier2", "http-socket-modifier1", "http-socket-modifier2",
                     "https-socket-modifier1", "https-socket-modifier2", "fastcgi-modifier1", "fastcgi-modifier2",
                     "scgi-modifier1", "scgi-modifier2")  # fmt: skip


class WebsocketSettings(NamedTuple):
    """What a WebSocket's client may do: times in seconds, the size of a message in bytes."""

    ping_seconds: int = 30  # between two pings
    pong_seconds: int = 3  # until a ping must be answered
    most_bytes: int = 1024 * 1024


class HttpSettings(NamedTuple):
    """What HTTP sockets do beyond HTTP; `variables` every request of theirs has."""

    variables: tuple[tuple[str, str], ...] = ()
    websockets: WebsocketSettings = WebsocketSettings()


def read(config: Config) -> HttpSettings:
    """The options of `config`."""
    settings = config.settings
    for name in _MODIFIERS:
        if settings.integer(name):
            option = settings.given(name)
            assert option is not None
            raise option.origin.error(f"{name} = {option.value}: only Python apps (modifier 0) are served")
    return HttpSettings(
        variables=tuple(_variable(option) for option in settings.items("http-var")),
        websockets=WebsocketSettings(
            ping_seconds=settings.integer("websockets-ping-freq", 30, minimum=1),
            pong_seconds=settings.integer("websockets-pong-tolerance", 3, minimum=1),
            most_bytes=settings.integer("websockets-max-size", 1024, minimum=1) * 1024,
        ),
    )


def redirect(option: Option) -> tuple[str, str]:
    """`http-to-https = ADDRESS[,PORT]`: where requests come, and the port they are sent to; "" is 443."""
    address, comma, port = (option.value or "").partition(",")
    if not address or (comma and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise option.origin.error(f"http-to-https = {option.value}: it takes an address and perhaps a port")
    return address, port


def _variable(option: Option) -> tuple[str, str]:
    key, value = option.parsed(lambda text: pair(text, "KEY=VALUE"))
    if not (key.isascii() and key.isprintable()) or "." in key:
        raise option.origin.error(f"http-var = {option.value}: {key!r} is no name of a request variable")
    return key, value
