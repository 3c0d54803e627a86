from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.errors import ConfigError
from palatine_alarm_daemon.curl_options import address, masked, parse_curl

SEED_MAIL = (
    "smtp://mail.example.com;mail_to=admin@example.com;mail_from=uwsgi@example.com;auth_user=uwsgi;"
    "auth_pass=secret;subject=alarm from uWSGI !!!"
)

# argument, address, what differs from the defaults
CASES: list[tuple[str, str, dict[str, Any]]] = [
    (
        SEED_MAIL,
        "smtp://mail.example.com",
        {
            "mail_to": "admin@example.com",
            "mail_from": "uwsgi@example.com",
            "user": "uwsgi",
            "password": "secret",
            "subject": "alarm from uWSGI !!!",
        },
    ),
    (
        "http://192.168.173.6:9191/argh;auth_user=topogigio;auth_pass=foobar",
        "http://192.168.173.6:9191/argh",
        {"user": "topogigio", "password": "foobar"},
    ),
    (
        "https://192.168.173.6/argh;method=POST;ssl_insecure=true",
        "https://192.168.173.6/argh",
        {"method": "POST", "verify": False},
    ),
    ("http://h/p?x=1", "http://h/p?x=1", {}),
    ("url=http://h/;method=POST", "http://h/", {"method": "POST"}),
    ("http://first/;url=http://second/", "http://second/", {}),
    ("http://first/;foo", "http://foo", {}),
    ("http://h/;", "http://h/", {}),
    ("http://h/;nosuch=1;subject=a=b", "http://h/", {"subject": "a=b"}),
    ("http://h/;ssl_insecure=false;ssl=0", "http://h/", {}),
    ("http://h/;ssl_insecure=;ssl=yes", "http://h/", {"tls": True}),
    ("http://h/;timeout=1.5;conn_timeout=2", "http://h/", {"timeout": 1.5, "connect_timeout": 2.0}),
    ("http://h/;timeout=0;conn_timeout=99999", "http://h/", {"timeout": 4.0, "connect_timeout": 300.0}),
    ("http://us%40er:p%3Aw@h:81/", "http://h:81/", {"user": "us@er", "password": "p:w"}),
    ("http://u:p@h/;auth_user=v;auth_pass=q", "http://h/", {"user": "v", "password": "q"}),
    ("h/path", "http://h/path", {}),
    ("smtp.example.com;mail_to=a@b", "smtp://smtp.example.com", {"mail_to": "a@b"}),
    ("http://h/with space/\u00e9;x=", "http://h/with%20space/%C3%A9", {}),
    ("http://[::1]:8/x", "http://[::1]:8/x", {}),
]


@pytest.mark.parametrize(("arg", "where", "options"), CASES)
def test_an_argument_is_read_as_uwsgi_reads_it(arg: str, where: str, options: dict[str, Any]) -> None:
    curl = parse_curl(arg)
    assert address(curl) == where
    defaults = {
        "method": "PUT",
        "user": "",
        "password": "",
        "subject": "",
        "mail_to": "",
        "mail_from": "",
        "tls": False,
        "verify": True,
        "timeout": 4.0,
        "connect_timeout": 4.0,
    }
    assert {name: getattr(curl, name) for name in defaults} == defaults | options


@pytest.mark.parametrize(
    ("arg", "reason"),
    [
        ("", "no url"),
        (";method=PUT", "no url"),
        ("ftp://h/x", "not served yet: curl with ftp://"),
        ("file:///etc/shadow", "not served yet: curl with file://"),
        ("http:///x", "no host"),
        ("http://h:port/", "Port"),
        ("http://h:0/", "no host"),
        ("smtp://h/", "mail needs mail_to"),
        ("smtp://h/;mail_to=,", "mail needs mail_to"),
        ("smtp://h/;mail_to=a b@c", "an address has spaces"),
        ("smtp://h/;mail_to=a@b;mail_from=x>\tSIZE=1", "an address has spaces"),
        ("http://h/;method=GET /x", "method is not a word"),
        ("http://h/;timeout=soon", "timeout is not a number"),
    ],
)
def test_what_cannot_be_served_says_why(arg: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_curl(arg)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("", b"hello\n"),
        (";subject=hi", b"Subject: hi\r\n\r\nhello\n"),
        (";mail_to=a@b,c@d", b"To: a@b,c@d\r\n\r\nhello\n"),
        (";mail_to=a@b;subject=hi;mail_from=x@y", b"To: a@b\r\nSubject: hi\r\n\r\nhello\n"),
        (";subject=a\r\nBcc: all@example.com", b"Subject: a Bcc: all@example.com\r\n\r\nhello\n"),
    ],
)
def test_header_text_stands_before_the_message(options: str, text: bytes) -> None:
    assert parse_curl(f"http://h/{options}").text(b"hello\n") == text


def test_recipients_are_a_comma_list() -> None:
    assert parse_curl("smtp://h/;mail_to= a@b , <c@d>,").recipients == ("a@b", "c@d")


@pytest.mark.parametrize(
    ("action", "arg", "shown"),
    [
        ("cmd", "mail -s x;auth_pass=y", "mail -s x;auth_pass=y"),
        ("curl", "http://h/;auth_user=u;auth_pass=secret;x=1", "http://h/;auth_user=u;auth_pass=***;x=1"),
        ("curl", "smtp://u:secret@h:25/p;mail_to=a@b", "smtp://u:***@h:25/p;mail_to=a@b"),
        ("curl", "http://h/p@x", "http://h/p@x"),
        ("curl", "http://u:s@h", "http://u:***@h"),
        ("airbrake", "http://h/;apikey=secret", "http://h/;apikey=***"),
        ("xmpp", "me@h/r;secret;you@h,she@h", "me@h/r;***;you@h,she@h"),
        ("xmpp", "me@h;secret", "me@h;***"),
        ("xmpp", "me@h", "me@h"),
    ],
)
def test_secrets_are_masked(action: str, arg: str, shown: str) -> None:
    assert masked(action, arg) == shown


@given(st.text(), st.sampled_from(["http://", "", "url=", "smtp://"]))
def test_any_argument_is_read_or_refused(text: str, scheme: str) -> None:
    try:
        curl = parse_curl(scheme + text)
    except ConfigError:
        return
    assert curl.url.hostname
    assert b"\n" not in curl.text(b"").replace(b"\r\n", b"")
    masked("curl", scheme + text)
