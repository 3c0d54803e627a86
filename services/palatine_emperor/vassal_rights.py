"""What `emperor-use-clone` and `emperor-cap` say vassals may see and do; pure, the keeper carries it out."""

from typing import Final

from palatine import kernel_words
from palatine.errors import ConfigError

#: clone(2) shares these with the emperor; a forked vassal that executes nothing of the emperor's shares nothing anyway.
_SHARED: Final = ("files", "io", "sysvsem")
_KNOWN: Final = ("pid", *(word for word in kernel_words.NAMESPACES if word not in _SHARED))


def namespaces(text: str) -> tuple[str, ...]:
    """The namespaces a vassal gets, by uWSGI's words; ConfigError for others."""
    found = []
    for word in filter(None, text.split(",")):
        if word == "user":
            raise ConfigError("a user namespace nobody has mapped has no root: uWSGI's vassals end there, too")
        if word == "parent":
            raise ConfigError("parent would take the vassals from who must know of their end")
        if word not in (*_KNOWN, *_SHARED):
            raise ConfigError(f"unknown namespace subsystem: {word} (there are {', '.join(_KNOWN)})")
        if word not in _SHARED:
            found.append(word)
    return tuple(dict.fromkeys(found))


def capabilities(text: str) -> tuple[int, ...]:
    """The capabilities a vassal may have, by names or numbers; ConfigError for unknown ones. None: all."""
    return tuple(sorted(kernel_words.capabilities(text)))
