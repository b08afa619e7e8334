"""The pair of keys that models are signed with."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.state import atomic


def generate(private_key: Path, public_key: Path) -> None:
    """Creates a pair (NIST P-256, PEM); only the owner can read the private key. Raises OSError, also if a key is there."""
    if private_key.exists():
        raise FileExistsError(17, "a key is there already", str(private_key))
    made = ec.generate_private_key(ec.SECP256R1())
    private = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path in (private_key, public_key):
        path.parent.mkdir(parents=True, exist_ok=True)
    # The public key first: with only the private key, models could be signed that nobody can verify.
    atomic.write(public_key, _public(made))
    atomic.write(private_key, private, mode=0o600)


def ensure(private_key: Path, public_key: Path) -> bool:
    """Creates the pair if it is not there; returns whether it did. Raises OSError; ValueError if a file holds no key."""
    if not private_key.exists():
        generate(private_key, public_key)
        return True
    if not public_key.exists():
        loaded = serialization.load_pem_private_key(private_key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{private_key} is no elliptic curve key")
        atomic.write(public_key, _public(loaded))
    return False


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
