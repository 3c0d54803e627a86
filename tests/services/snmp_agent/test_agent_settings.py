import re
from pathlib import Path

import pytest

from palatine.daemon import parse_document, typed
from palatine.errors import ConfigError
from palatine_snmp_agent.access_policy import EVERYTHING, Families, Grant
from palatine_snmp_agent.settings import Settings, parse_address

GOOD = """
listen: [":161", "[::1]:1161", "localhost:1162"]
rate: {per-second: 100, burst: 300}
views:
  custom: {include: [1.3.6.1.4.1.35156.17.2], exclude: [.1.3.6.1.4.1.35156.17.2.9]}
communities:
  - {community: pub, sources: [10.0.0.0/8, "::1"], view: custom, contexts: [app]}
  - community: pub
groups:
  watchers: {level: authNoPriv, view: custom, contexts: ["shop-*"]}
users:
  - {name: ops, auth: sha256, auth-passphrase: maplesyrup, priv: aes128, priv-passphrase: privpriv1}
  - {name: eve, auth: sha, auth-passphrase: maplesyrup, group: watchers}
targets:
  - {address: "nms.example:162", community: pub, inform: true, events: ["vassal*", coldStart]}
  - {address: "[::1]:162", version: v3, user: ops, name: second}
"""


def settings(text: str) -> Settings:
    return typed(parse_document(text, "agent.yaml"), Settings)


def test_a_whole_file() -> None:
    read = settings(GOOD)
    custom = Families(((1, 3, 6, 1, 4, 1, 35156, 17, 2),), ((1, 3, 6, 1, 4, 1, 35156, 17, 2, 9),))
    first, second = read.community_grants()[b"pub"]
    assert first.grant == Grant(custom, 0, ("app",))
    assert [str(network) for network in first.sources] == ["10.0.0.0/8", "::1/128"]
    assert second.grant.families == EVERYTHING
    users = read.v3_users(b"12345")
    assert users[b"ops"].grant == Grant(EVERYTHING, 3)
    assert users[b"eve"].grant == Grant(custom, 1, ("shop-*",))
    assert (users[b"ops"].keys.level, users[b"eve"].keys.level) == (3, 1)
    assert read.buckets() == (100, 300)
    assert [target.called for target in read.targets] == ["nms.example:162", "second"]
    assert "maplesyrup" not in repr(read)


def test_an_empty_file_opens_nothing() -> None:
    read = settings("")
    assert (read.listen, read.community_grants(), read.v3_users(b"12345"), read.targets) == ((), {}, {}, ())


BAD = [
    ("listen: [161]", 1, "HOST:PORT"),
    ('listen: ["::1:161"]', 1, "HOST:PORT"),
    ('max-reply: 12\nlisten: ["x:0"]', 2, "HOST:PORT"),
    ("engine-id: xyz", 1, "engine id"),
    ("views:\n  a: {include: [1.2.three]}", 2, "dotted"),
    ("communities:\n  - community: ''", 2, "1 to 255"),
    ("communities:\n  - community: a@b", 2, "no @"),
    ("communities:\n  - {community: pub, sources: [10.0.0.1/8]}", 2, "host bits"),
    ("communities:\n  - {community: pub, view: other}", 2, "no view 'other'"),
    ("users:\n  - {name: ops, auth: md5}", 2, "must be one of"),
    ("users:\n  - {name: ops, auth: sha, auth-passphrase: short}", 2, "8 octets"),
    ("users:\n  - {name: ops, auth-passphrase: maplesyrup}", 2, "no protocol"),
    ("users:\n  - name: ops\n    priv: aes128\n    priv-passphrase: privpriv1", 3, "privacy needs authentication"),
    ("users:\n  - {name: ops}\n  - {name: ops}", 2, "two users"),
    ("users:\n  - {name: ops, group: nope}", 2, "no group"),
    ("groups: {g: {level: authPriv}}\nusers:\n  - {name: ops, group: g}", 3, "no keys for"),
    ("groups: {g: {levle: authPriv}}", 1, "did you mean 'level'"),
    ("targets:\n  - {address: x}", 2, "HOST:PORT"),
    ('targets:\n  - {address: "x:162"}', 2, "community"),
    ('targets:\n  - {address: "x:162", version: v3}', 2, "needs a `user`"),
    ('targets:\n  - {address: "x:162", version: v3, user: nobody}', 2, "no user 'nobody'"),
    ('targets:\n  - {address: "x:162", version: v1, community: p, inform: true}', 2, "no informs"),
    ('targets:\n  - {address: "x:162", community: p, events: [wrokerDied]}', 2, "is no notification"),
    ('targets:\n  - {address: "x:162", community: p, expire: 0}', 2, "more than 0"),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")) as refused:
        settings(text)
    assert (refused.value.path, refused.value.line) == ("agent.yaml", line)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":161", ("0.0.0.0", 161)),
        ("udp:127.0.0.1:161", ("127.0.0.1", 161)),
        ("[::]:161", ("::", 161)),
        ("localhost:9", ("localhost", 9)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_the_demos_file_is_good() -> None:
    read = settings((Path(__file__).parents[3] / "deploy" / "demo" / "snmp-agent.yaml").read_text())
    assert read.listen == ("127.0.0.1:1161",)
    assert read.users[0].level == 3


def test_the_examples_in_the_documentation_are_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of YAML in docs/snmp.md after those before it, for a user of one needs the users of another."""
    text = (Path(__file__).parents[3] / "docs" / "snmp.md").read_text()
    secret = tmp_path / "secret"
    secret.write_text("maplesyrup\n")
    monkeypatch.setenv("NAME", "public")
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    whole = re.sub(r"/etc/palatine/[a-z.-]+", str(secret), "".join(blocks))
    read = settings(whole)
    assert read.users
    assert read.targets
    assert read.communities[0].community.value == "maplesyrup"
