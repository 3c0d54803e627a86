"""Certificates for tests: one authority, and what it signs, made once a session's directory."""

import datetime as dt
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_SIGNS = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


class Pair(NamedTuple):
    """Paths of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A self-signed authority in `directory`; `pair` holds its own certificate."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("palatine tests")
        self.pair = self._write("ca", self._key, self._name, self._name)

    def sign(self, name: str) -> Pair:
        """A certificate for `name`, valid for localhost and 127.0.0.1 names alike."""
        return self._write(name, ec.generate_private_key(ec.SECP256R1()), _named(name), self._name)

    def _write(self, stem: str, key: ec.EllipticCurvePrivateKey, subject: x509.Name, issuer: x509.Name) -> Pair:
        now = dt.datetime.now(dt.UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=stem == "ca", path_length=None), critical=True)
        )
        # asked for by Python's own clients since 3.13 (RFC 5280 4.2.1)
        built = built.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        built = built.add_extension(authority, critical=False)
        if stem == "ca":
            built = built.add_extension(_SIGNS, critical=True)
        signed = built.sign(self._key, hashes.SHA256())
        pair = Pair(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        pair.key.chmod(0o600)
        return pair


def _named(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "IT"), x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    )
