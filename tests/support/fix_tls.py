"""Certificates for one test session: an authority, a server certificate for this machine, a client certificate."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deltaforge.embedded.kafka_conf import TlsFiles
from tests.support.canaries import canary

if TYPE_CHECKING:
    from pathlib import Path

CLIENT_KEY_PASSWORD = canary("client key")
_USUAL_S = 2 * 24 * 3600.0


@dataclass(frozen=True)
class ClientFiles:
    """A client's PEM files; the key twice, plain and encrypted with `CLIENT_KEY_PASSWORD`."""

    certificate: Path
    key: Path
    encrypted_key: Path


@dataclass(frozen=True)
class Certificates:
    """All certificates of the session. `stranger_ca` signed nothing here: who trusts only it must refuse."""

    authority: Authority
    ca: Path
    stranger_ca: Path
    server: TlsFiles
    client: ClientFiles


class Authority:
    """A certificate authority whose key stays in memory."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        public = self._key.public_key()
        self.certificate = (
            _unsigned(self._name, self._name, public)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(_key_usage(authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def pem(self) -> bytes:
        """The authority's own certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *, server: bool, valid_s: float = _USUAL_S) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
        """A certificate, valid for localhost and 127.0.0.1 when it is a server's, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _unsigned(_subject(name), self._name, key.public_key(), valid_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if server:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key


def private_pem(key: ec.EllipticCurvePrivateKey, password: str | None = None) -> bytes:
    """A private key as PKCS#8, the only form Java reads; encrypted when a password is given."""
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        protection = serialization.BestAvailableEncryption(password.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """PEM files in a directory of the session."""
    folder = tmp_path_factory.mktemp("tls")

    def write(name: str, content: bytes) -> Path:
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        return path

    authority = Authority("deltaforge test authority")
    server, server_key = authority.issue("localhost", server=True)
    client, client_key = authority.issue("deltaforge-client", server=False)
    ca = write("ca.pem", authority.pem())
    return Certificates(
        authority,
        ca=ca,
        stranger_ca=write("stranger-ca.pem", Authority("somebody else").pem()),
        server=TlsFiles(ca, write("server.pem", server), write("server.key", private_pem(server_key))),
        client=ClientFiles(
            write("client.pem", client),
            write("client.key", private_pem(client_key)),
            write("client-encrypted.key", private_pem(client_key, CLIENT_KEY_PASSWORD)),
        ),
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid_s: float = _USUAL_S
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(seconds=valid_s))
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
