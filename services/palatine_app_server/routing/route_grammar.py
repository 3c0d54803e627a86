"""uWSGI's internal routing as values: rules, their conditions and actions. Text in, values out; nothing is run here."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from palatine.errors import ConfigError
from palatine_app_server.config.values import compiled

#: What the options without a condition of their own look at.
SUBJECTS: Final = {
    "": "PATH_INFO", "host": "HTTP_HOST", "uri": "REQUEST_URI", "qs": "QUERY_STRING", "remote-addr": "REMOTE_ADDR",
    "user-agent": "HTTP_USER_AGENT", "remote-user": "REMOTE_USER", "referer": "HTTP_REFERER",
}  # fmt: skip
TABLES: Final = ("route", "error-route", "response-route", "final-route")
#: Every option of routing.
OPTIONS: Final = tuple(
    f"{table}-{kind}" if kind else table
    for table in TABLES
    for kind in (*SUBJECTS, "status", "label", "if", "if-not", "run")
    if (table, kind) != ("route", "status")
)
#: Conditions that compare two texts, and those that look at one.
PAIRS: Final = {
    "equal": "equal", "isequal": "equal", "eq": "equal", "==": "equal", "startswith": "startswith",
    "endswith": "endswith", "regexp": "regexp", "re": "regexp", "contains": "contains", "contain": "contains",
    "ishigher": "higher", ">": "higher", "islower": "lower", "<": "lower", "ishigherequal": "higherequal",
    ">=": "higherequal", "islowerequal": "lowerequal", "<=": "lowerequal", "ipv4in": "network", "ipv6in": "network",
}  # fmt: skip
SINGLES: Final = frozenset({"exists", "isfile", "isdir", "islink", "isexec", "empty"})
#: Actions by name; those that mean the same have the same value.
ACTIONS: Final = {
    **{name: name for name in (
        "continue", "break", "return", "log", "donotlog", "logvar", "goto", "addvar", "addheader", "clearheaders",
        "send", "send-crnl", "chdir", "setapp", "setuser", "setprocname", "alarm", "signal", "harakiri", "rewrite",
        "rewrite-last", "redirect", "redirect-permanent", "static", "static-next", "file", "file-next", "basicauth",
        "basicauth-next", "fixpathinfo", "disableheaders", "+", "-", "*", "/",
    )},
    "last": "continue", "break-with-status": "return", "delheader": "remheader", "remheader": "remheader",
    "resetheaders": "clearheaders", "redirect-302": "redirect", "redirect-301": "redirect-permanent",
    "sendfile": "file", "sendfile-next": "file-next", "fastfile": "file", "fastfile-next": "file-next",
    **dict.fromkeys(("setscriptname", "setmethod", "seturi", "sethost", "setremoteaddr", "setpathinfo", "setdocroot",
                     "setscheme"), "set"),
    **dict.fromkeys(("metricinc", "metricdec", "metricmul", "metricdiv", "metricset"), "metric"),
    # true of every response here: framing is the server's, and nobody waits for files
    **dict.fromkeys(("donotoffload", "chunked", "fixcl", "forcecl", "flush"), "nothing"),
    **dict.fromkeys(("setmodifier1", "setmodifier2", "offload"), "nothing"),
    # see route_extra_grammar
    **dict.fromkeys(("cache", "cachevar", "cacheset", "cachestore", "cache-store", "cacheinc", "cachedec", "cachemul",
                     "cachediv", "gzip", "toupper", "template", "tofile", "to-file", "hash", "expires", "http",
                     "httpdumb", "proxyhttp", "uwsgi", "proxyuwsgi"), "extra"),
}  # fmt: skip
VARIABLES: Final = {
    "setscriptname": "SCRIPT_NAME", "setmethod": "REQUEST_METHOD", "seturi": "REQUEST_URI", "sethost": "HTTP_HOST",
    "setremoteaddr": "REMOTE_ADDR", "setpathinfo": "PATH_INFO", "setdocroot": "DOCUMENT_ROOT",
    "setscheme": "UWSGI_SCHEME",
}  # fmt: skip


class Condition(NamedTuple):
    """`name` is one of PAIRS' values, SINGLES, "incache" or "status"; `left` and `right` are templates."""

    name: str
    left: str
    right: str = ""
    negated: bool = False


class Rule(NamedTuple):
    """One line: a label; or an action, run always, when `pattern` is found in `subject`, or under a `condition`."""

    action: str = ""
    argument: str = ""
    word: str = ""  # the action as it was written
    label: str = ""
    subject: str = ""
    pattern: "re.Pattern[str] | None" = None
    condition: Condition | None = None


class Routes(NamedTuple):
    """The four tables, in the order of their lines."""

    request: tuple[Rule, ...] = ()
    error: tuple[Rule, ...] = ()
    response: tuple[Rule, ...] = ()
    final: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any rule."""
        return any(self[:])


class Line(NamedTuple):
    """An option of routing as it was written; `error` makes a ConfigError of its place."""

    option: str
    value: str
    error: Callable[[str], ConfigError]


def parse(lines: Sequence[Line]) -> Routes:
    """The tables of a config; ConfigError at the first line that is wrong."""
    tables: dict[str, list[Rule]] = {table: [] for table in TABLES}
    for line in lines:
        table = next(table for table in reversed(TABLES) if line.option == table or line.option.startswith(f"{table}-"))
        try:
            tables[table].append(parse_rule(line.option.removeprefix(table).removeprefix("-"), line.value))
        except ConfigError as error:
            raise line.error(error.message) from error
    return Routes(*(tuple(tables[table]) for table in TABLES))


def parse_rule(kind: str, value: str) -> Rule:
    """One rule; `kind` is what follows `route-` in its option."""
    if kind == "label":
        return Rule(label=value)
    if kind == "run":
        return _action(value)
    first, space, action = value.partition(" ")
    if not space:
        raise ConfigError(f"{value!r}: a route is what it looks for, a space and an action")
    rule = _action(action)
    if kind == "status":
        return rule._replace(condition=Condition("status", first))
    if kind in {"if", "if-not"}:
        return rule._replace(condition=_condition(first, negated=kind == "if-not"))
    return rule._replace(subject=SUBJECTS[kind], pattern=compile_pattern(first))


def compile_pattern(text: str) -> "re.Pattern[str]":
    """A regular expression over latin-1 text, as request variables are."""
    return compiled(text, lambda said: said.encode("utf-8", "surrogateescape").decode("latin-1"))


def _condition(text: str, *, negated: bool) -> Condition:
    word, colon, argument = text.partition(":")
    if not colon:
        raise ConfigError(f"{text!r}: a condition is its name, a colon and what it looks at")
    if word == "incache":
        from palatine_app_server.routing import route_extra_grammar  # few have one

        route_extra_grammar.check(word, argument)
        return Condition(word, argument, "", negated)
    if word in SINGLES:
        return Condition(word, argument, "", negated)
    name = PAIRS.get(word)
    if name is None:
        raise ConfigError(f'unable to find "{word}" route condition')
    left, semicolon, right = argument.partition(";")
    if not semicolon:
        raise ConfigError(f"{text!r}: {word} compares two texts, with a semicolon between them")
    if name == "regexp":
        compile_pattern(right)
    return Condition(name, left, right, negated)


def _action(text: str) -> Rule:
    word, colon, argument = text.partition(":")
    if not colon:
        raise ConfigError(f"{text!r}: an action is its name, a colon and its argument")
    action = ACTIONS.get(word)
    if action is None or action == "extra":
        from palatine_app_server.routing import route_extra_grammar  # few have one

        if action is None:
            instead = route_extra_grammar.REFUSED.get(word, "")
            raise ConfigError(f'unable to register route: there is no action "{word}" here{instead and f": {instead}"}')
        route_extra_grammar.check(route_extra_grammar.SPELLINGS.get(word, word), argument)
    wanted = _NEEDS.get(action)
    if wanted and wanted[0] not in argument:
        raise ConfigError(f"{text!r}: {word} takes {wanted[1]}")
    return Rule(action, argument, word)


_NEEDS: Final = {
    "logvar": ("=", "key=value"), "addvar": ("=", "key=value"), "alarm": (" ", "an alarm, a space and a message"),
    "basicauth": (",", "realm,user:password or realm,file"),
    "basicauth-next": (",", "realm,user:password or realm,file"),
}  # fmt: skip
