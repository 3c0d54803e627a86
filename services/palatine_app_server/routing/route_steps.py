"""What each action of a route does to a walk, and how that goes on: "next", "continue", "break" or "goto"."""

from collections.abc import Callable
from typing import Final

from palatine.codec.http_head import unquote
from palatine_app_server.routing.route_grammar import VARIABLES, Rule
from palatine_app_server.routing.route_walk import Effect, Reply, Walk, header_text, number

_NOWHERE: Final = "/dev/null/nowhere"


def _break(walk: Walk, rule: Rule) -> str:
    if len(rule.argument) >= 3:
        walk.reply = Reply(rule.argument, (("Connection", "close"), ("Content-Type", "text/plain")))
    return "break"


def _return(walk: Walk, rule: Rule) -> str:
    reason = REASONS.get(rule.argument)
    if reason is not None:
        body = b"" if rule.argument[0] == "1" or rule.argument in {"204", "304"} else reason.encode()
        headers = (("Content-Type", "text/plain"), ("Content-Length", str(len(body)))) if body else ()
        walk.reply = Reply(f"{rule.argument} {reason}", headers, body)
    return "break"


def _redirect(walk: Walk, rule: Rule) -> str:
    status, text = ("302 Found", b"Moved")
    if rule.action == "redirect-permanent":
        status, text = ("301 Moved Permanently", b"Moved Permanently")
    walk.reply = Reply(status, (("Location", header_text(walk.expand(rule.argument))),), text)
    return "break"


def _static(walk: Walk, rule: Rule) -> str:
    path = _below(walk, rule.argument)
    if rule.action == "static-next" and not walk.world.is_file("isfile", path):
        return "next"
    walk.static = path
    return "break"


def _below(walk: Walk, template: str) -> str:
    """The file a rule names; none where what a client sent leads out of the directory it was put in."""
    path = walk.expand(template)
    if "\0" not in path and path.split("/").count("..") <= template.split("/").count(".."):
        return path
    walk.log(f"[uwsgi-route] {path!r} leads elsewhere")
    return _NOWHERE


def _file(walk: Walk, rule: Rule) -> str:
    given = dict(item.partition("=")[::2] for item in rule.argument.split(","))
    path = _below(walk, given.get("filename", ""))
    if not walk.world.is_file("isfile", path):
        return "next" if rule.action == "file-next" else "break"
    kind = (walk.world.value("mime", path) if "mime" in given else "") or given.get("content_type", "text/html")
    walk.reply = Reply(walk.expand(given.get("status", "200 OK")), (("Content-Type", kind),), path=path)
    return "break"


def _basicauth(walk: Walk, rule: Rule) -> str:
    if walk.get("REMOTE_USER"):
        return "next"
    realm, _, secret = rule.argument.partition(",")
    authorization = walk.get("HTTP_AUTHORIZATION")
    user = walk.world.password_fits(authorization, secret) if authorization and secret else ""
    if user:
        walk.set("REMOTE_USER", user)
        return "next"
    if rule.action == "basicauth-next" and authorization:
        return "next"
    headers = (("WWW-Authenticate", f'Basic realm="{realm}"'),)
    walk.reply = Reply("401 Authorization Required", headers, b"Unauthorized")
    return "break"


def _rewrite(walk: Walk, rule: Rule) -> str:
    path, question, query = walk.expand(rule.argument).partition("?")
    before = walk.get("QUERY_STRING")
    if question:
        walk.set("QUERY_STRING", f"{query}&{before}" if before else query)
    walk.set("PATH_INFO", unquote(path))
    return "continue" if rule.action == "rewrite-last" else "next"


def _math(walk: Walk, rule: Rule) -> str:
    name, _, operand = rule.argument.partition(",")
    left, right = number(walk.get(name)), number(walk.expand(operand)) if operand else 1
    results = {"+": left + right, "-": left - right, "*": left * right}
    results["/"] = int(left / right) if right else 0
    walk.set(name, str(results[rule.action]))
    return "next"


def _add_header(walk: Walk, rule: Rule) -> str:
    name, colon, value = walk.expand(rule.argument).partition(":")
    if colon and name:
        walk.add.append((header_text(name), header_text(value.strip())))
    return "next"


def _set_user(walk: Walk, rule: Rule) -> str:
    walk.set("REMOTE_USER", walk.expand(rule.argument).partition(":")[0])
    return "next"


def _fix_path_info(walk: Walk, _rule: Rule) -> str:
    walk.set("PATH_INFO", walk.get("PATH_INFO")[len(walk.get("SCRIPT_NAME")) :])
    return "next"


def _keyed(walk: Walk, rule: Rule) -> tuple[str, str]:
    key, _, template = rule.argument.partition("=")
    return key, walk.expand(template)


def _log_variable(walk: Walk, rule: Rule) -> str:
    key, value = _keyed(walk, rule)
    walk.log_variables[key] = value
    return "next"


def _add_variable(walk: Walk, rule: Rule) -> str:
    walk.set(*_keyed(walk, rule))
    return "next"


def _set(walk: Walk, rule: Rule) -> str:
    walk.set(VARIABLES[rule.word], walk.expand(rule.argument))
    return "next"


def _remove_header(walk: Walk, rule: Rule) -> str:
    walk.remove.append(walk.expand(rule.argument).lower())
    return "next"


def _clear_headers(walk: Walk, rule: Rule) -> str:
    walk.fresh_status = walk.expand(rule.argument)
    return "next"


def _send(walk: Walk, rule: Rule) -> str:
    data = walk.expand(rule.argument).encode("latin-1", "replace")
    walk.raw += data + (b"\r\n" if rule.action == "send-crnl" else b"")
    return "next"


def _set_app(walk: Walk, rule: Rule) -> str:
    walk.app = walk.expand(rule.argument)
    return "next"


def _be_silent(walk: Walk, _rule: Rule) -> str:
    walk.silent = True
    return "next"


def _effect(walk: Walk, rule: Rule) -> str:
    parts = rule.argument.split(" ", 1) if rule.action == "alarm" else [rule.argument]
    arguments = [walk.expand(part) for part in parts]
    if rule.action == "metric":
        arguments = [rule.word, *arguments[0].split(",", 1)]
    walk.effects.append(Effect(rule.action, tuple(arguments)))
    return "next"


def _extra(walk: Walk, rule: Rule) -> str:
    from palatine_app_server.routing import route_extras  # loaded with the first worker that has such a rule

    return route_extras.run(walk, rule)


Step = Callable[[Walk, Rule], str]
STEPS: Final[dict[str, Step]] = {
    "continue": lambda _walk, _rule: "continue", "goto": lambda _walk, _rule: "goto",
    "nothing": lambda _walk, _rule: "next", "disableheaders": lambda _walk, _rule: "next",
    "break": _break, "return": _return, "redirect": _redirect, "redirect-permanent": _redirect,
    "static": _static, "static-next": _static, "file": _file, "file-next": _file, "basicauth": _basicauth,
    "basicauth-next": _basicauth, "rewrite": _rewrite, "rewrite-last": _rewrite, "+": _math, "-": _math, "*": _math,
    "/": _math, "addheader": _add_header, "remheader": _remove_header, "clearheaders": _clear_headers,
    "setuser": _set_user, "fixpathinfo": _fix_path_info, "logvar": _log_variable, "addvar": _add_variable, "set": _set,
    "extra": _extra, "send": _send, "send-crnl": _send, "setapp": _set_app, "donotlog": _be_silent,
    **dict.fromkeys(("log", "alarm", "signal", "harakiri", "chdir", "setprocname", "metric"), _effect),
}  # fmt: skip

#: The reasons `return:` knows (uWSGI's table).
REASONS: Final = {
    "100": "Continue", "101": "Switching Protocols", "200": "OK", "201": "Created", "202": "Accepted",
    "203": "Non-Authoritative Information", "204": "No Content", "205": "Reset Content", "206": "Partial Content",
    "300": "Multiple Choices", "301": "Moved Permanently", "302": "Found", "303": "See Other", "304": "Not Modified",
    "305": "Use Proxy", "307": "Temporary Redirect", "400": "Bad Request", "401": "Unauthorized",
    "402": "Payment Required", "403": "Forbidden", "404": "Not Found", "405": "Method Not Allowed",
    "406": "Not Acceptable", "407": "Proxy Authentication Required", "408": "Request Timeout", "409": "Conflict",
    "410": "Gone", "411": "Length Required", "412": "Precondition Failed", "413": "Request Entity Too Large",
    "414": "Request-URI Too Long", "415": "Unsupported Media Type", "416": "Requested Range Not Satisfiable",
    "417": "Expectation Failed", "418": "I'm a teapot", "422": "Unprocessable Entity", "425": "Too Early",
    "426": "Upgrade Required", "428": "Precondition Required", "429": "Too Many Requests",
    "431": "Request Header Fields Too Large", "451": "Unavailable For Legal Reasons", "500": "Internal Server Error",
    "501": "Not Implemented", "502": "Bad Gateway", "503": "Service Unavailable", "504": "Gateway Timeout",
    "505": "HTTP Version Not Supported", "507": "Insufficient Storage", "509": "Bandwidth Limit Exceeded",
    "511": "Network Authentication Required",
}  # fmt: skip
