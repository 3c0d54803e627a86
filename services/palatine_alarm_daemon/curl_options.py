"""The argument of a `curl` alarm: `<url>[;option=value]...`. Pure; it must never open anything.

Tokens are split on `;` without escapes. A later token without `=` replaces the URL, as it does in uWSGI; unknown
options are ignored. `ssl=false` and `ssl_insecure=false` mean what they say.
"""

from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

import attrs

from palatine.errors import ConfigError

#: Seconds, uWSGI's `socket-timeout`.
DEFAULT_TIMEOUT: Final = 4.0
LONGEST_TIMEOUT: Final = 300.0
SCHEMES: Final = frozenset({"http", "https", "smtp", "smtps"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})
_SECRET_OPTIONS: Final = frozenset({"auth_pass", "apikey"})


@attrs.frozen
class Curl:
    """Where and how to deliver; `tls` is required TLS (STARTTLS for smtp), `verify` is whether certificates count."""

    url: SplitResult
    method: str = "PUT"
    user: str = ""
    password: str = attrs.field(default="", repr=False)
    subject: str = ""
    mail_to: str = ""
    mail_from: str = ""
    tls: bool = False
    verify: bool = True
    timeout: float = DEFAULT_TIMEOUT
    connect_timeout: float = DEFAULT_TIMEOUT

    @property
    def is_mail(self) -> bool:
        """Whether it goes by SMTP."""
        return self.url.scheme in {"smtp", "smtps"}

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope recipients."""
        return tuple(name for name in (part.strip(" <>") for part in self.mail_to.split(",")) if name)

    def text(self, message: bytes) -> bytes:
        """What is sent for `message`: header lines and a blank line where subject or recipients are given, then it."""
        lines = [f"{name}: {value}\r\n" for name, value in (("To", self.mail_to), ("Subject", self.subject)) if value]
        head = "".join([*lines, "\r\n"]) if lines else ""
        return head.encode("utf-8", "surrogateescape") + message


def parse_curl(arg: str) -> Curl:
    """Read the argument; ConfigError if there is no URL, or one this daemon does not serve."""
    url = ""
    options: dict[str, str] = {}
    for index, token in enumerate(arg.split(";")):
        name, equals, value = token.partition("=")
        if name == "url" and equals:
            url = value
        elif index == 0 or (token and not equals):
            url = token
        elif token:
            options[name] = value
    if not url:
        raise ConfigError("curl: no url")
    parts = _split(url)
    user, password = options.get("auth_user", ""), options.get("auth_pass", "")
    curl = Curl(
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]),
        method=_word(options.get("method") or "PUT", "method"),
        user=user or unquote(parts.username or ""),
        password=password or unquote(parts.password or ""),
        subject=_line(options.get("subject", "")),
        mail_to=_line(options.get("mail_to", "")),
        mail_from=_line(options.get("mail_from", "")).strip("<>"),
        tls=_flag(options, "ssl"),
        verify=not _flag(options, "ssl_insecure"),
        timeout=_seconds(options, "timeout"),
        connect_timeout=_seconds(options, "conn_timeout"),
    )
    if curl.is_mail and not curl.recipients:
        raise ConfigError("curl: mail needs mail_to")
    if not all(name.isprintable() and " " not in name for name in (*curl.recipients, curl.mail_from)):
        raise ConfigError("curl: an address has spaces or control characters")
    return curl


def masked(action: str, arg: str) -> str:
    """An alarm's argument without its passwords and keys, for logs and listings."""
    if action == "xmpp":
        jid, first, rest = arg.partition(";")
        return f"{jid}{first}***{';' + rest.partition(';')[2] if ';' in rest else ''}" if first else arg
    if action not in {"curl", "airbrake"}:
        return arg
    return ";".join(_masked_token(token) for token in arg.split(";"))


def _masked_token(token: str) -> str:
    name, equals, _ = token.partition("=")
    if equals and name in _SECRET_OPTIONS:
        return f"{name}=***"
    scheme, separator, rest = token.partition("://")
    account, at, host = rest.partition("/")[0].rpartition("@")
    if not (separator and at):
        return token
    return f"{scheme}://{account.partition(':')[0]}:***@{host}{rest[len(account) + 1 + len(host) :]}"


def _split(url: str) -> SplitResult:
    """The URL with a scheme, guessed as curl does where there is none; ConfigError if it cannot be served."""
    if "://" not in url:
        url = f"{'smtp' if url.startswith('smtp.') else 'http'}://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"curl: {error}") from error
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"not served yet: curl with {parts.scheme}://")
    if not parts.hostname or port == 0:
        raise ConfigError("curl: no host in the url")
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return parts._replace(path=path, query=quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]"), fragment="")


def address(curl: Curl) -> str:
    """The URL without its account."""
    return urlunsplit(curl.url)


def _flag(options: dict[str, str], name: str) -> bool:
    return options.get(name, "").strip().lower() not in _FALSE


def _seconds(options: dict[str, str], name: str) -> float:
    text = options.get(name, "")
    try:
        seconds = float(text) if text else DEFAULT_TIMEOUT
    except ValueError as error:
        raise ConfigError(f"curl: {name} is not a number of seconds: {text}") from error
    return min(seconds, LONGEST_TIMEOUT) if seconds > 0 else DEFAULT_TIMEOUT


def _line(text: str) -> str:
    return " ".join(text.splitlines())


def _word(text: str, name: str) -> str:
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise ConfigError(f"curl: {name} is not a word: {text}")
    return text
