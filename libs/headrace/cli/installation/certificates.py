"""A private certificate authority and the ingress's certificate, for this machine; made if absent or soon to expire."""

from __future__ import annotations

import ipaddress
import socket
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from headrace.state import atomic

_CA_LIFE = timedelta(days=5 * 365)
_SERVER_LIFE = timedelta(days=90)
# Renewed by `headrace up` when less than this is left.
RENEW_BEFORE = timedelta(days=14)
# So that a client whose clock is a little late accepts a new certificate.
_BACKDATED = timedelta(hours=1)


def ensure(folder: Path, now: datetime) -> bool:
    """Makes `ca.pem`, `ca.key`, `server.pem` and `server.key` (keys: mode 0600) unless they are valid for a while.

    Returns whether it made a certificate. The authority stays as long as it is valid: clients may have installed it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = False
    if not _good(folder / "ca.pem", folder / "ca.key", now):
        _make_ca(folder, now)
        (folder / "server.pem").unlink(missing_ok=True)
        made = True
    if not _good(folder / "server.pem", folder / "server.key", now):
        _make_server(folder, now)
        made = True
    return made


def expires(certificate: Path) -> datetime | None:
    """When a certificate ends; None if there is none, or it can't be read."""
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def _good(certificate: Path, key: Path, now: datetime) -> bool:
    end = expires(certificate)
    return end is not None and key.exists() and end - now > RENEW_BEFORE


def _make_ca(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"headrace local CA ({socket.gethostname()})"[:64])]
    )
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(name, name, key, now, _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca.key", folder / "ca.pem", key, certificate)


def _make_server(folder: Path, now: datetime) -> None:
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey), "we made it"
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "headrace")])
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    names = [x509.DNSName(n) for n in dict.fromkeys(("localhost", socket.gethostname()))]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    certificate = (
        _builder(name, authority.subject, key, now, _SERVER_LIFE)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write(folder / "server.key", folder / "server.pem", key, certificate)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _write(
    key_file: Path, file: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    atomic.write(key_file, pem, mode=0o600)
    atomic.write(file, certificate.public_bytes(serialization.Encoding.PEM))
