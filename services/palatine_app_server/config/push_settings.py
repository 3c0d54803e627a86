"""The stats pushers a config asks for; the stats-exporter does the pushing. Plain; loaded where one is asked for."""

import socket
from typing import Final

from palatine.codec.push_grammar import DEFAULT_SECONDS, RRDTOOL_SECONDS, Wish, parse_carbon, parse_push
from palatine.config import Config, Option
from palatine.errors import ConfigError

#: The options that ask for a pusher.
ASKED_BY: Final = ("stats-push", "rrdtool", "carbon")
#: What uWSGI does when the config is silent (plugins/carbon/carbon.c).
_CARBON_SECONDS: Final = 60
_CARBON_TIMEOUT: Final = 3
_CARBON_RETRIES: Final = 1
_CARBON_RETRY_SECONDS: Final = 7
#: How the documents of `file` look: the options of stats sockets.
_FORM: Final = ("minified", "no_cores", "no_metrics")
_IDLE_AVERAGES: Final = ("last", "zero", "none")


def read(config: Config, first_socket: str) -> tuple[Wish, ...]:
    """All of them; ConfigError names the line that is wrong. `first_socket` names the instance to carbon."""
    settings = config.settings
    often = settings.integer("stats-pusher-default-freq", DEFAULT_SECONDS, minimum=1)
    rrdtool = settings.integer("rrdtool-freq", RRDTOOL_SECONDS, minimum=1)
    wishes = []
    for name in ASKED_BY:
        for option in settings.items(name):
            try:
                if name == "carbon":
                    wishes.append(_carbon(config, option, first_socket))
                else:
                    text = f"rrdtool:{option.value}" if name == "rrdtool" else option.value or ""
                    wishes.append(parse_push(text, often, rrdtool))
            except ConfigError as error:
                raise option.origin.error(error.message) from error
    common = {"host": socket.gethostname(), **{key: settings.flag(f"stats-{key.replace('_', '-')}") for key in _FORM}}
    return tuple(wish._replace(options={**common, **wish.options}) for wish in wishes)


def _carbon(config: Config, option: Option, first_socket: str) -> Wish:
    settings = config.settings
    idle = settings.text("carbon-idle-avg", "") or "last"
    if idle not in _IDLE_AVERAGES:
        raise ConfigError(f"carbon-idle-avg takes {', '.join(_IDLE_AVERAGES)}, not {idle!r}")
    root = settings.given("carbon-root")
    options = {
        "root": "uwsgi" if root is None else root.value or "",
        "id": settings.text("carbon-id", "") or first_socket.replace(".", "_"),
        "dots": settings.text("carbon-hostname-dots", "")[:1],
        "workers": not settings.flag("carbon-no-workers"),
        "idle_avg": idle,
        "cheaper": settings.given("cheaper") is not None,
        "metrics": settings.flag("carbon-use-metrics"),
        "timeout": settings.integer("carbon-timeout", _CARBON_TIMEOUT, minimum=1),
        "retries": settings.integer("carbon-max-retry", _CARBON_RETRIES),
        "retry_seconds": settings.integer("carbon-retry-delay", _CARBON_RETRY_SECONDS, minimum=1),
    }
    often = settings.integer("carbon-freq", _CARBON_SECONDS, minimum=1)
    return parse_carbon(option.value or "", often, options)
