"""The options about responses that few configs have, as one value; ConfigError names the line that is wrong."""

from typing import NamedTuple

from palatine.config import Config, Option


class Collected(NamedTuple):
    """A response header, in lower case, whose value becomes a request variable; `pulled`: no client sees it."""

    header: str
    variable: str
    pulled: bool


class ResponseSettings(NamedTuple):
    """What is done to every response; the defaults are nothing."""

    collected: tuple[Collected, ...] = ()
    head_bytes: int = 0  # an app's head over this is a 500; 0: no limit
    head_at_once: bool = False  # sent by start_response, not with the body
    takes_buffers: bool = False  # pieces of a body may be any buffer
    file_wrapper: bool = True
    sendfile: bool = True
    silent_writes: bool = False  # an app's write() does not hear of a client that left


def read(config: Config) -> ResponseSettings:
    """The options of `config`."""
    settings = config.settings
    collected = [_collected(option, pulled=False) for option in settings.items("collect-header")]
    collected += [_collected(option, pulled=True) for option in settings.items("pull-header")]
    return ResponseSettings(
        collected=tuple(collected),
        head_bytes=settings.integer("response-headers-limit"),
        head_at_once=settings.flag("start_response-nodelay"),
        takes_buffers=settings.flag("wsgi-accept-buffer"),
        file_wrapper=not settings.flag("wsgi-disable-file-wrapper"),
        sendfile=not settings.flag("disable-sendfile"),
        silent_writes=settings.flag("disable-write-exception"),
    )


def _collected(option: Option, *, pulled: bool) -> Collected:
    header, _, variable = (option.value or "").strip().partition(" ")
    variable = variable.strip()
    if not header or not variable or " " in variable or "." in variable:
        raise option.origin.error(f"{option.name} = {option.value}: it takes a header, a space and a variable's name")
    return Collected(header.lower(), variable, pulled)
