"""Signatures of images in the form of cosign: a manifest under the tag `sha256-….sig`, whose layer says what was signed.

The keys are those that models are signed with: NIST P-256, PEM. `cosign verify --key models.pub` reads them once the layout has
been copied to a registry (`skopeo copy`); here it is neither needed nor called.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from headrace.delivery.errors import DeliveryError
from headrace.delivery.oci import Registry

_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
_LAYER = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"


def sign(registry: Registry, digest: str, reference: str, private_key: Path) -> None:
    """Signs that `digest` is what `reference` names. Raises DeliveryError, OSError."""
    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise DeliveryError(f"{private_key} is no private key in PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeliveryError(f"{private_key} is no elliptic curve key; make one by `headrace models keys`")
    payload, layers = _payload(digest, reference), _layers(registry, digest)
    if any(_signed(registry, layer, [key.public_key()]) == payload for layer in layers):
        return
    signature = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    layer = {
        "mediaType": _LAYER,
        "digest": registry.put(payload),
        "size": len(payload),
        "annotations": {_ANNOTATION: signature},
    }
    # Beside those that are there: several services may have one image, and several keys sign it while one replaces another.
    registry.tag(_tag(digest), registry.put_manifest([*layers, layer], _ARTIFACT))


def verify(registry: Registry, digest: str, reference: str, public_keys: Sequence[Path]) -> None:
    """Raises DeliveryError unless one of the keys signed that `digest` is what `reference` names; OSError."""
    layers = _layers(registry, digest)
    if not layers:
        raise DeliveryError(f"{reference}: {digest} is not signed; publish the version again, which signs it")
    keys = [_public(path) for path in public_keys]
    payloads = [found for layer in layers if (found := _signed(registry, layer, keys)) is not None]
    if _payload(digest, reference) in payloads:
        return
    if payloads:
        raise DeliveryError(f"{reference}: the signature of {digest} is valid for something else; refused")
    raise DeliveryError(
        f"{reference}: no signature of {digest} verifies with {', '.join(map(str, public_keys)) or 'no key'}; "
        "name the key of who published it (--trusted), or publish the version again"
    )


def _layers(registry: Registry, digest: str) -> list[dict[str, Any]]:
    """What the signatures of an image are in; empty: it has none. Raises DeliveryError."""
    if (found := registry.tags().get(_tag(digest))) is None:
        return []
    layers = registry.json(found).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _signed(
    registry: Registry, layer: Mapping[str, Any], keys: Sequence[ec.EllipticCurvePublicKey]
) -> bytes | None:
    """What one of the keys signed; None: none of them did. Raises DeliveryError."""
    payload = registry.blob(str(layer.get("digest", "")))
    signature = (layer.get("annotations") or {}).get(_ANNOTATION)
    return payload if any(_holds(key, signature, payload) for key in keys) else None


def _payload(digest: str, reference: str) -> bytes:
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": _TYPE,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def _tag(digest: str) -> str:
    return f"{digest.replace(':', '-')}.sig"


def _public(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise DeliveryError(f"{path} is no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise DeliveryError(f"{path} is no elliptic curve key")
    return key


def _holds(key: ec.EllipticCurvePublicKey, signature: object, payload: bytes) -> bool:
    try:
        key.verify(base64.b64decode(str(signature), validate=True), payload, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
