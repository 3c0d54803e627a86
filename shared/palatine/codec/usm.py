"""USM's keys, digests and ciphers (RFC 3414, RFC 3826, RFC 7860), octets in and out; it must never decide who may ask.

Own code on `hashlib` and `cryptography` because the library we tried is not fit for a hostile network: pysnmp up to
7.1.27 took an empty digest for a right one (its issue 249), still looks for the digest by its value instead of its
place, compares it in a time that depends on it, and answers some 600 requests a second.

DES and MD5 are not offered. AES-256 is the 2004 draft's, with the two ways in use of stretching a key that a short
hash makes: `aes256` by Blumenthal (net-snmp's AES-256), `aes256c` by Reeder (Cisco's).
"""

import hashlib
import hmac
from typing import Any, Final, NamedTuple

from palatine.codec import ber, snmp_v3
from palatine.codec.snmp_v3 import MessageV3, Security
from palatine.errors import ProtocolError

#: Octets a passphrase is stretched to before it is hashed: RFC 3414 appendix A.2.
_STRETCHED: Final = 1 << 20
#: RFC 3414 section 11.2.
LEAST_PASSPHRASE: Final = 8
#: Octets of a block of AES.
_BLOCK: Final = 16
#: Seconds a message may be late or early: RFC 3414 section 2.2.3.
TIME_WINDOW: Final = 150


class Auth(NamedTuple):
    """An authentication protocol: hashlib's name of the hash, and octets of a digest in a message."""

    hash: str
    digest_octets: int


class Priv(NamedTuple):
    """A privacy protocol: octets of its key, and whether a short one is stretched by Reeder's way."""

    key_octets: int
    reeder: bool = False


AUTHS: Final = {
    "sha": Auth("sha1", 12),
    "sha224": Auth("sha224", 16),
    "sha256": Auth("sha256", 24),
    "sha384": Auth("sha384", 32),
    "sha512": Auth("sha512", 48),
}
PRIVS: Final = {"aes128": Priv(16), "aes256": Priv(32), "aes256c": Priv(32, reeder=True)}


class Keys(NamedTuple):
    """What a user proves himself with towards one engine; None for what he does not use. Never shown."""

    auth: Auth | None = None
    mac: "Mac | None" = None
    cipher: "Cipher | None" = None

    def __repr__(self) -> str:
        return "Keys(***)"

    @property
    def level(self) -> int:
        """Flags of the most he can do."""
        return (snmp_v3.AUTH if self.auth else 0) | (snmp_v3.PRIV if self.cipher else 0)


class Secrets(NamedTuple):
    """A user's passphrases as keys of no engine in particular: the slow part of making `Keys`. Never shown."""

    auth: Auth | None = None
    auth_key: bytes = b""
    priv: Priv | None = None
    priv_key: bytes = b""

    def __repr__(self) -> str:
        return "Secrets(***)"

    def towards(self, engine_id: bytes) -> Keys:
        """The keys for one engine."""
        if self.auth is None:
            return Keys()
        mac = Mac(self.auth.hash, localized(self.auth.hash, self.auth_key, engine_id))
        if self.priv is None:
            return Keys(self.auth, mac)
        return Keys(self.auth, mac, Cipher(_stretched(self.auth.hash, self.priv, self.priv_key, engine_id)))


def secrets(auth: str = "", auth_passphrase: str = "", priv: str = "", priv_passphrase: str = "") -> Secrets:
    """Keys of passphrases; `auth` and `priv` are names of `AUTHS` and `PRIVS`, "" for none. Takes some milliseconds."""
    if not auth:
        return Secrets()
    found = AUTHS[auth]
    auth_key = passphrase_key(found.hash, auth_passphrase.encode())
    if not priv:
        return Secrets(found, auth_key)
    return Secrets(found, auth_key, PRIVS[priv], passphrase_key(found.hash, priv_passphrase.encode()))


def passphrase_key(name: str, passphrase: bytes) -> bytes:
    """The key Ku of a passphrase: RFC 3414 appendix A.2. ProtocolError for an empty one."""
    if not passphrase:
        raise ProtocolError("an empty passphrase makes no key")
    repeated = passphrase * (_STRETCHED // len(passphrase) + 1)
    return hashlib.new(name, repeated[:_STRETCHED]).digest()


def localized(name: str, key: bytes, engine_id: bytes) -> bytes:
    """The key Kul of one engine: RFC 3414 section 2.6."""
    return hashlib.new(name, key + engine_id + key).digest()


def _stretched(name: str, priv: Priv, key: bytes, engine_id: bytes) -> bytes:
    """A localized key of as many octets as the cipher wants."""
    kul = localized(name, key, engine_id)
    last = kul
    while len(kul) < priv.key_octets:
        last = (
            localized(name, passphrase_key(name, last), engine_id) if priv.reeder else hashlib.new(name, kul).digest()
        )
        kul += last
    return kul[: priv.key_octets]


class Mac:
    """HMAC (RFC 2104) with one key, its two hashes begun once: 2.5 us for a message, where `hmac.digest` takes 8."""

    def __init__(self, name: str, key: bytes) -> None:
        size = hashlib.new(name).block_size
        padded = key.ljust(size, b"\0")  # a localized key is never longer than a block
        self._inner = hashlib.new(name, bytes(octet ^ 0x36 for octet in padded))
        self._outer = hashlib.new(name, bytes(octet ^ 0x5C for octet in padded))

    def digest(self, octets: bytes) -> bytes:
        """The whole digest."""
        inner = self._inner.copy()
        inner.update(octets)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class Cipher:
    """AES in CFB-128 with one key: RFC 3826 section 3.1. `cryptography` is loaded when the first is made."""

    def __init__(self, key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers import Cipher as AnyCipher
        from cryptography.hazmat.primitives.ciphers import algorithms, modes

        self._cipher = AnyCipher
        self._mode = _cfb()
        self._algorithm = algorithms.AES(key)
        ecb = modes.ECB()  # noqa: S305 - a block at a time is what CFB is made of
        self._blocks = AnyCipher(self._algorithm, ecb).encryptor().update

    def encrypt(self, boots: int, time: int, salt: bytes, plain: bytes) -> bytes:
        """`plain` encrypted; `salt` has 8 octets and must never come again with the same key, boots and time."""
        mode = self._mode(_vector(boots, time, salt))
        return bytes(self._cipher(self._algorithm, mode).encryptor().update(plain))  # CFB holds nothing back

    def decrypt(self, boots: int, time: int, salt: bytes, octets: bytes) -> bytes:
        """The other way; a wrong key gives garbage.

        What is laid over a block is the one before it encrypted: all of them are there, so that one call with the key
        as it was expanded once does it, in a third of the time of a decryptor made for each message.
        """
        size = len(octets)
        before = _vector(boots, time, salt) + octets[: max(size - 1, 0) // _BLOCK * _BLOCK]
        over = self._blocks(before)[:size]
        return (int.from_bytes(octets, "big") ^ int.from_bytes(over, "big")).to_bytes(size, "big")


def _vector(boots: int, time: int, salt: bytes) -> bytes:
    return boots.to_bytes(4, "big") + time.to_bytes(4, "big") + salt


def _cfb() -> Any:
    """The mode, which `cryptography` 47 moved."""
    try:
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
    except ImportError:
        from cryptography.hazmat.primitives.ciphers.modes import CFB
    return CFB


def seal(message: MessageV3, keys: Keys, salt: int) -> bytes:
    """The datagram of a plain message, encrypted and authenticated as its flags say; `salt` must never come again."""
    message_id, max_size, flags, (engine_id, boots, time, user, _, salted), data, _ = message
    if flags & snmp_v3.PRIV:
        assert keys.cipher is not None
        salted = (salt & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big")
        data = ber.encode(ber.OCTET_STRING, keys.cipher.encrypt(boots, time, salted, data))
    size = keys.auth.digest_octets if flags & snmp_v3.AUTH and keys.auth is not None else 0
    security = Security(engine_id, boots, time, user, bytes(size), salted)
    datagram, at = snmp_v3.write_message(MessageV3(message_id, max_size, flags, security, data))
    if not flags & snmp_v3.AUTH:
        return datagram
    assert keys.mac is not None
    digest = keys.mac.digest(datagram)[:size]
    return datagram[:at] + digest + datagram[at + size :]


def authentic(datagram: bytes, message: MessageV3, keys: Keys) -> bool:
    """Whether the digest of a message read from `datagram` is right: RFC 3414 section 6.3.2."""
    if keys.auth is None or keys.mac is None:
        return False
    size, at = keys.auth.digest_octets, message.digest_at
    if len(message.security.digest) != size:
        return False
    blank = datagram[:at] + bytes(size) + datagram[at + size :]
    return hmac.compare_digest(keys.mac.digest(blank)[:size], message.security.digest)


def opened(message: MessageV3, keys: Keys) -> bytes:
    """The plain data of an authentic message. ProtocolError if it cannot be decrypted."""
    if not message.flags & snmp_v3.PRIV:
        return message.data
    security = message.security
    if keys.cipher is None or len(security.salt) != snmp_v3.MAX_SALT:
        raise ProtocolError("no key or no salt to decrypt with")
    start, stop = ber.content(message.data, 0, len(message.data), ber.OCTET_STRING)
    return keys.cipher.decrypt(security.boots, security.time, security.salt, message.data[start:stop])
