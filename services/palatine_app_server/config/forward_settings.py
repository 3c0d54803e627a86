"""`http-to`: requests that come by the router's sockets go on to other servers, by the uwsgi protocol."""

from palatine.config import Config, Option
from palatine_app_server.config import http_settings, socket_settings


def read(config: Config) -> tuple[str, ...]:
    """Their addresses; () where it is this very instance.

    ConfigError where other sockets would have apps of their own: here one worker serves all.
    """
    given = config.settings.items("http-to")
    ours = {wish.address for wish in socket_settings.read_sockets(config)}
    others = [option for option in given if option.value not in ours]
    if not others:
        return ()
    first = others[0]
    if len(others) < len(given) or any(option.name not in http_settings.ROUTER for option in _sockets(config)):
        raise first.origin.error(
            f"http-to = {first.value}: beside sockets of its own an instance takes a route: uwsgi:{first.value},0,0"
        )
    return tuple(option.value or "" for option in others)


def _sockets(config: Config) -> list[Option]:
    return [option for option in config.options if option.name in socket_settings.KINDS and option.value]
