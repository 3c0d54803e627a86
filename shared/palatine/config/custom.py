"""`declare-option`: options a configuration makes up from others. Text templates only; nothing is applied here."""

from typing import NamedTuple

from palatine.errors import ConfigError


class Template(NamedTuple):
    """A declared option: its name, whether it takes an argument, and its body `name=value;name=value`."""

    name: str
    has_argument: bool
    body: str


def parse_declaration(value: str) -> Template:
    """`newoption=template`; it takes an argument if the template names `$1`, `$2` or `$3`."""
    name, equals, body = value.partition("=")
    if not equals or not name:
        raise ConfigError(f"invalid declare-option {value!r}: write newoption=template")
    return Template(name, any(f"${number}" in body for number in (1, 2, 3)), body)


def expand_template(template: Template, value: str) -> list[tuple[str, str]]:
    """The options the template stands for, `$1`, `$2`, … replaced by the words of `value`."""
    words = [word for word in value.split(" ") if word] or [""]
    result = []
    for part in template.body.split(";"):
        if not part:
            continue
        name, equals, text = part.partition("=")
        if not equals:
            break  # uWSGI stops at the first part that is no assignment
        result.append((_fill(name, words), _fill(text, words)))
    return result


def _fill(text: str, words: list[str]) -> str:
    for number, word in enumerate(words, 1):
        text = text.replace(f"${number}", word)
    return text
