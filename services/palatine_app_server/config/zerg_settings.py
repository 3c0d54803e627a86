"""Zergs, as a config has them: whose sockets this instance shares, and who may share its own. Plain."""

from typing import NamedTuple

from palatine.config import Config, Option
from palatine_app_server.config.socket_settings import SocketWish

#: Kinds of what a pool is made of: where it is asked, and the sockets it gives.
POOL_DOOR = "zergpool-door"
POOLED = "zergpool"


class Pool(NamedTuple):
    """`zergpool = NAME:ADDRESS,...`: sockets bound for zergs alone, given to who connects to `name`."""

    name: str
    addresses: tuple[str, ...]

    @property
    def wishes(self) -> tuple[SocketWish, ...]:
        """All that must be bound for it, the door first."""
        return (SocketWish(POOL_DOOR, self.name), *(SocketWish(POOLED, address) for address in self.addresses))


class ZergSettings(NamedTuple):
    """Paths as the config spells them: `nodes` are zerg servers to ask, `server` is where this one answers."""

    nodes: tuple[str, ...] = ()
    fallback: bool = False
    server: str = ""
    pools: tuple[Pool, ...] = ()

    @property
    def wishes(self) -> tuple[SocketWish, ...]:
        """All that must be bound for the pools."""
        return tuple(wish for pool in self.pools for wish in pool.wishes)


def read(config: Config) -> ZergSettings:
    """The settings of `config`; ConfigError names the line that is wrong."""
    settings = config.settings
    return ZergSettings(
        nodes=tuple(map(_name, settings.texts("zerg"))),
        fallback=settings.flag("zerg-fallback"),
        server=_name(settings.text("zerg-server", "")),
        pools=tuple(map(_pool, settings.items("zergpool"))),
    )


def _pool(option: Option) -> Pool:
    name, colon, rest = (option.value or "").partition(":")
    addresses = tuple(map(_name, filter(None, rest.split(","))))
    if not colon or not name or not addresses:
        raise option.origin.error(f"invalid zergpool syntax: {option.value}: it takes NAME:ADDRESS,ADDRESS...")
    return Pool(_name(name), addresses)


def _name(text: str) -> str:
    """UWSGI's other spelling of an abstract name as ours."""
    return f"@{text[2:]}" if text.startswith("\\0") else text
