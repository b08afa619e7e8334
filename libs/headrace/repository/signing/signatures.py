"""Signatures in the format of OpenSSF Model Signing, over bytes in memory: the verified bytes are the ones that are used.

The library hashes files by path, and a file could change after that. So it gets a hashing configuration that returns the
hashes of bytes that were read before. The signature is the ordinary one: the library's own command
(`model_signing verify key FOLDER …`) accepts it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_signing.hashing import Config

# A Sigstore bundle without certificates has a few hundred bytes per file.
MAX_SIGNATURE_BYTES = 1 << 20


class SignatureError(Exception):
    """A signature can't be made, or is not valid; the text says why."""


def sign(name: str, files: Mapping[str, bytes], private_key: Path) -> bytes:
    """The signature (a Sigstore bundle, JSON) of `files`, by name. `private_key`: PEM, NIST P-256, P-384 or P-521.

    Raises SignatureError.
    """
    from model_signing import signing

    with tempfile.TemporaryDirectory(prefix="headrace-sign-") as folder:
        made = Path(folder) / "signature"
        try:
            config = signing.Config()  # type: ignore[no-untyped-call]  # its __init__ lacks annotations
            config = config.use_elliptic_key_signer(private_key=private_key)
            config.set_hashing_config(_known(files)).sign(name, made)
        except OSError as error:
            raise SignatureError(f"can't read the private key {private_key} ({error.strerror})") from error
        except (ValueError, TypeError) as error:
            raise SignatureError(f"{private_key} is no private key that can sign: {error}") from error
        return made.read_bytes()


def verify(files: Mapping[str, bytes], signature: bytes, public_keys: Sequence[bytes]) -> str:
    """Id of the key among `public_keys` (PEM) that signed exactly these `files`. Raises SignatureError."""
    from model_signing import verifying

    known = {key_id(key): key for key in public_keys}
    signer = _signer(signature)
    if signer not in known:
        ids = ", ".join(sorted(k[:16] for k in known)) or "none"
        raise SignatureError(f"it names the key {signer[:16]}, which is not trusted here (trusted: {ids})")
    with tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder:
        kept, key = Path(folder) / "signature", Path(folder) / "key"
        kept.write_bytes(signature)
        key.write_bytes(known[signer])
        try:
            config = verifying.Config()  # type: ignore[no-untyped-call]  # its __init__ lacks annotations
            config = config.use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_known(files)).verify(folder, kept)
        # A malicious bundle can make the parsers raise anything; in every case the signature is not valid.
        except Exception as error:
            raise SignatureError(_why(error)) from error
    return signer


def public_key(path: Path) -> bytes:
    """The public key (PEM) from a file with the public key, or with the private key without a password. Raises SignatureError."""
    from cryptography.hazmat.primitives import serialization

    try:
        content = path.read_bytes()
        if b"PRIVATE KEY" not in content:
            key_id(content)
            return content
        key = serialization.load_pem_private_key(content, None).public_key()
    except OSError as error:
        raise SignatureError(f"can't read the key {path} ({error.strerror})") from error
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path} is no key in PEM without a password") from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)


def key_id(public_key: bytes) -> str:
    """SHA-256 of a public key (PEM), hexadecimal, as signatures name it. Raises SignatureError."""
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(public_key)
    except ValueError as error:
        raise SignatureError("a trusted key is no public key in PEM") from error
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.PEM, form)).hexdigest()


def _why(error: Exception) -> str:
    text = str(error)
    altered = sorted(set(re.findall(r"Hash mismatch for [\\']*([^'\\]+)", text)))
    if altered:
        return f"{', '.join(altered)} is not what was signed"
    return text or f"it was not made by the key that it names ({type(error).__name__})"


def _signer(signature: bytes) -> str:
    """Id of the key that a bundle names as its signer. Unverified: it only says which key to verify with."""
    try:
        hint = json.loads(signature)["verificationMaterial"]["publicKey"]["hint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        hint = None
    if not isinstance(hint, str) or not hint:
        raise SignatureError("the signature is no Sigstore bundle that names its key")
    return hint


def _known(files: Mapping[str, bytes]) -> Config:
    from model_signing import hashing, manifest

    # The only private name used here. A test checks that signatures agree with the library's own.
    from model_signing._hashing.hashing import Digest

    class Known(hashing.Config):
        """Returns the hashes of bytes that were read before, for any path."""

        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:  # noqa: ARG002 - the library's signature
            form = manifest.SerializationType.from_args(
                {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
            )
            items = [
                form.new_item(name, Digest("sha256", hashlib.sha256(content).digest()))
                for name, content in files.items()
            ]
            return manifest.Manifest(PurePosixPath(str(model_path)).name, items, form)

    return Known()  # type: ignore[no-untyped-call]  # its base's __init__ lacks annotations
