import hmac

import pytest

from palatine.codec import snmp_v3, usm
from palatine.codec.snmp_v3 import AUTH, PRIV, MessageV3, Scoped, Security
from palatine.errors import ProtocolError

ENGINE = bytes.fromhex("000000000000000000000002")
PDU = bytes.fromhex("a00b020101020100020100 3000".replace(" ", ""))
DATA = snmp_v3.write_scoped(Scoped(ENGINE, b"app", PDU))


def message(flags: int) -> MessageV3:
    return MessageV3(7, 65507, flags, Security(ENGINE, 3, 99, b"ops"), DATA)


def test_keys_are_those_of_rfc_3414_and_its_successors() -> None:
    key = usm.passphrase_key("sha1", b"maplesyrup")
    assert key.hex() == "9fb5cc0381497b3793528939ff788d5d79145211"
    assert usm.localized("sha1", key, ENGINE).hex() == "6695febc9288e36282235fc7151f128497b38f3f"
    with pytest.raises(ProtocolError):
        usm.passphrase_key("sha1", b"")


@pytest.mark.parametrize("priv", ["", *usm.PRIVS])
@pytest.mark.parametrize("auth", usm.AUTHS)
def test_what_is_sealed_can_be_opened_and_nothing_in_it_changed(auth: str, priv: str) -> None:
    keys = usm.secrets(auth, "maplesyrup", priv, "privpriv1").towards(ENGINE)
    flags = AUTH | (PRIV if priv else 0)
    assert keys.level == flags
    sealed = usm.seal(message(flags), keys, 2**64 + 5)
    read = snmp_v3.read_message(sealed)
    assert usm.authentic(sealed, read, keys)
    assert usm.opened(read, keys) == DATA
    assert (PDU in sealed) == (not priv)
    other = usm.secrets(auth, "maplesyrux", priv, "privpriv2").towards(ENGINE)
    assert not usm.authentic(sealed, read, other)
    if priv:
        assert usm.opened(read, other) != DATA
    for at in range(12, len(sealed), 7):
        changed = sealed[:at] + bytes((sealed[at] ^ 1,)) + sealed[at + 1 :]
        try:
            assert not usm.authentic(changed, snmp_v3.read_message(changed), keys), at
        except ProtocolError:
            continue


@pytest.mark.parametrize("auth", usm.AUTHS.values())
def test_a_mac_is_hmac(auth: usm.Auth) -> None:
    for octets in (b"", b"x", bytes(1000)):
        key = usm.localized(auth.hash, b"key", ENGINE)
        assert usm.Mac(auth.hash, key).digest(octets) == hmac.digest(key, octets, auth.hash)


def test_a_digest_is_looked_for_at_its_place_and_never_missing() -> None:
    """pysnmp took an empty digest for a right one, and finds the digest by its value wherever that stands first."""
    keys = usm.secrets("sha256", "maplesyrup").towards(ENGINE)
    for digest in (b"", b"\0", bytes(24), b"ops" * 8):
        datagram, _ = snmp_v3.write_message(MessageV3(7, 65507, AUTH, Security(ENGINE, 3, 99, b"ops", digest), DATA))
        assert not usm.authentic(datagram, snmp_v3.read_message(datagram), keys)
    sealed = usm.seal(message(AUTH), keys, 0)
    assert not usm.authentic(sealed, snmp_v3.read_message(sealed), usm.Keys())


def test_two_salts_make_two_texts_and_a_missing_salt_none() -> None:
    keys = usm.secrets("sha", "maplesyrup", "aes128", "privpriv1").towards(ENGINE)
    first, second = (snmp_v3.read_message(usm.seal(message(AUTH | PRIV), keys, salt)) for salt in (1, 2))
    assert first.data != second.data
    with pytest.raises(ProtocolError):
        usm.opened(first._replace(security=first.security._replace(salt=b"1234")), keys)
    with pytest.raises(ProtocolError):
        usm.opened(first, usm.Keys())


def test_keys_are_never_shown() -> None:
    secrets = usm.secrets("sha", "maplesyrup", "aes128", "privpriv1")
    assert repr(secrets) == "Secrets(***)"
    assert repr(secrets.towards(ENGINE)) == "Keys(***)"
    assert usm.secrets().towards(ENGINE).level == 0
