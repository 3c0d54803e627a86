"""What options that steer the reading do: `ini`, `include`, `set`, `for`, `strict`, `plugins`, `exit` and more."""

from typing import Final

from palatine.codec.config_math import leading_int
from palatine.config.custom import parse_declaration
from palatine.config.files import format_of, read_envdir
from palatine.config.loader import Action, Loader, Slot
from palatine.config.plugins import BUILT_IN, foreign, is_built_in, language_of, plugin_names
from palatine.config.suggest import did_you_mean
from palatine.config.table import Kind
from palatine.errors import ConfigError

_FALSE: Final = frozenset({"false", "off", "no", "0"})


class ConfigExit(ConfigError):  # noqa: N818  # nothing is wrong: `exit = N` in the configuration asks for it
    """The configuration says `exit = N`, usually under a condition; `exit_status` is N."""


def is_true(value: str | None) -> bool:
    """Truth as uWSGI has it: everything but false, off, no and 0 (in any case), so "" too."""
    return value is None or value.lower() not in _FALSE


def _strict(loader: Loader, _: Slot, value: str) -> None:
    loader.strict = is_true(value)


def _set(loader: Loader, slot: Slot, value: str) -> None:
    name, equals, text = value.partition("=")
    if not equals:
        raise ConfigError(f"invalid {slot.name} value {value!r}: write {slot.name} = name=value")
    if slot.name == "set":
        loader.add(name, text, slot.origin)
    else:
        loader.add_placeholder(name, text, slot.origin)


def _resolve(loader: Loader, slot: Slot, value: str) -> None:
    name, equals, host = value.partition("=")
    if not equals:
        raise ConfigError(f"invalid resolve value {value!r}: write resolve = placeholder=domain")
    import socket

    try:
        address = socket.gethostbyname(host)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"unable to resolve name {host}: {error}") from error
    loader.add_placeholder(name, address, slot.origin)


def _declare(loader: Loader, _: Slot, value: str) -> None:
    template = parse_declaration(value)
    loader.templates[template.name] = template
    loader.table.declare(Kind(template.name, "req" if template.has_argument else "none", "list", (), immediate=True))


def _plugins(loader: Loader, slot: Slot, value: str) -> None:
    for name in plugin_names(value):
        language = language_of(name)
        if language:
            slot.problem = slot.origin.error(foreign("plugin", name, language))
        elif not is_built_in(name):
            hint = did_you_mean(name, BUILT_IN.split())
            message = f"palatine has no plugin {name!r} and cannot load uWSGI's{hint}"
            if slot.name.startswith("need-"):
                slot.problem = slot.origin.error(message)
            else:
                loader.warnings.append(f"{slot.origin}: {message}")


def _exit(_: Loader, slot: Slot, value: str) -> None:
    error = ConfigExit(f"the configuration asks to exit with status {leading_int(value) & 255}")
    error.exit_status = 1 if slot.value is None else leading_int(value) & 255
    raise error


def _reads(kind: str) -> Action:
    return lambda loader, _, value: loader.load(kind, value)


def _forbids(which: str) -> Action:
    return lambda loader, _, value: loader.forbidden.update({which: value.lower().split()})


def _allows(which: str) -> Action:
    def allow(loader: Loader, _: Slot, __: str) -> None:
        loader.forbidden.pop(which, None)

    return allow


def _template(loader: Loader, _: Slot, value: str) -> None:
    loader.load(format_of(value), value, template=True)


def _early_envdir(loader: Loader, _: Slot, value: str) -> None:
    loader.environ.update(read_envdir(loader.files.path(value)))


_LOGIC: Final = (
    "for for-glob for-times for-readline if-opt if-not-opt if-env if-not-env if-reload if-not-reload if-hostname"
    " if-not-hostname if-hostname-match if-not-hostname-match if-exists if-not-exists if-plugin if-not-plugin if-file"
    " if-not-file if-dir if-not-dir"
)

#: By canonical name of the option.
ACTIONS: Final[dict[str, Action]] = {
    "strict": _strict,
    "set": _set,
    "set-placeholder": _set,
    "resolve": _resolve,
    "declare-option": _declare,
    "declare-option2": _declare,
    "include": _template,
    "inherit": _template,
    "config": lambda loader, _, value: loader.load(format_of(value), value),
    "inject-before": lambda loader, _, value: loader.files.inject(value, after=False),
    "inject-after": lambda loader, _, value: loader.files.inject(value, after=True),
    "early-envdir": _early_envdir,
    "plugins": _plugins,
    "need-plugins": _plugins,
    "exit": _exit,
    # the app comes from the same file; whoever loads it asks the settings for that
    **{name: _reads("ini") for name in ("ini-paste", "ini-paste-logged")},
    **{name: _reads(name) for name in ("ini", "xml", "yaml", "json")},
    **{which: _forbids(which) for which in ("blacklist", "whitelist")},
    **{f"end-{which}": _allows(which) for which in ("blacklist", "whitelist")},
    **{name: (lambda loader, slot, _: loader.start_logic(slot)) for name in _LOGIC.split()},
}
