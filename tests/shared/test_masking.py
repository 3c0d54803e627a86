import pytest
from hypothesis import given
from hypothesis import strategies as st

from palatine.codec.masking import MASK, is_secret, masked_address, masked_query, masked_url, masked_variables

SECRETS = ("Cookie", "Authorization", "Proxy-Authorization", "X-Csrf-Token", "client_secret", "PASSWORD", "api_key")


@pytest.mark.parametrize("name", [*SECRETS, "HTTP_COOKIE", "HTTP_X_API_KEY", "passwd", "t%6fken", "%70assword"])
def test_these_names_are_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["HTTP_HOST", "REQUEST_METHOD", "user", "QUERY_STRING", "id", "", "%zz"])
def test_these_names_are_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/", "/"),
        ("/a?b=c", "/a?b=c"),
        ("/a?token=x&b=c;key=z", "/a?token=***&b=c;key=***"),
        ("/a?token=&b", "/a?token=&b"),
        ("/a?x=1?secret=y#access_token=q", "/a?x=1?secret=***#access_token=***"),
        ("http://u:p@h/a?b=c", "http://u:***@h/a?b=c"),
        ("/token=x", "/token=x"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("/etc/vassals", "/etc/vassals"),
        ("pg://host=db password='a b' dbname=x", "pg://host=db password=*** dbname=x"),
        ('pg://host=db PGPASSWORD="a b" dbname=x', "pg://host=db PGPASSWORD=*** dbname=x"),
        ("pg://passwd = abc;SELECT", "pg://passwd = ***;SELECT"),
        ("mongodb://u:p@h:1/x?y=z", "mongodb://u:***@h:1/x?y=z"),
        ("amqp://u:p/w@rd@h:1/x", "amqp://u:***@h:1/x"),
        ("zmq://tcp://127.0.0.1:5252", "zmq://tcp://127.0.0.1:5252"),
        ("http://h/?TOKEN=abc&x=1", "http://h/?TOKEN=***&x=1"),
        ("pg://postgres://u:p:q@h/db", "pg://postgres://u:***@h/db"),
    ],
)
def test_addresses(address: str, shown: str) -> None:
    assert masked_address(address) == shown


def test_variables_are_in_order_masked_and_text_only() -> None:
    environ = {
        "QUERY_STRING": "a=1&token=abc",
        "REQUEST_METHOD": "GET",
        "HTTP_COOKIE": "sessionid=abc",
        "HTTP_PROXY_AUTHORIZATION": "Basic abc",
        "HTTP_REFERER": "http://u:abc@h/?secret=abc",
        "wsgi.input": object(),
        "HTTP_X": "caf\xe9",
    }
    assert masked_variables(environ, 4000).split(b"\0") == [
        b"QUERY_STRING=a=1&token=***",
        b"REQUEST_METHOD=GET",
        b"HTTP_COOKIE=***",
        b"HTTP_PROXY_AUTHORIZATION=***",
        b"HTTP_REFERER=http://u:***@h/?secret=***",
        b"HTTP_X=caf\xe9",
    ]


@given(st.dictionaries(st.text(), st.text() | st.none(), max_size=20), st.integers(0, 200))
def test_any_variables_fit_and_are_whole(environ: dict[str, str | None], most: int) -> None:
    found = masked_variables(environ, most)
    assert len(found) <= most
    assert masked_variables(environ, 10**6).startswith(found)


@given(st.text(), st.sampled_from(SECRETS), st.text(st.characters(blacklist_characters="?&;#"), min_size=8))
def test_no_value_of_a_secret_key_survives(before: str, key: str, value: str) -> None:
    for shown in (masked_query(f"{before}&{key}={value}"), masked_url(f"/?{before}&{key}={value}")):
        assert shown.endswith(f"{key}={MASK}")


@given(st.text())
def test_nothing_raises(text: str) -> None:
    masked_url(text), masked_query(text), masked_address(text), is_secret(text)
