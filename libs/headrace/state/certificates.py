"""Whether a certificate with its key, or a bundle of CAs, can be served now. Nothing is written anywhere."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_LEAST_RSA_BITS = 2048


def pair_end(chain: bytes, key: bytes, now: float) -> float:
    """When a certificate (PEM, its issuers behind it) ends; `now` and the result in seconds since the epoch.

    Raises ValueError if it has ended or not begun, if the key is not its own, or if Envoy takes no such key.
    """
    certificate = x509.load_pem_x509_certificates(chain)[0]
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError as error:
        raise ValueError("the key is encrypted") from error
    if private.public_key() != certificate.public_key():
        raise ValueError("the key does not belong to the certificate")
    if isinstance(private, rsa.RSAPrivateKey):
        if private.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"an RSA key must have {_LEAST_RSA_BITS} bits or more")
    elif not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("the key must be RSA or ECDSA")  # noqa: TRY004 - of a file, not of an argument
    moment = datetime.fromtimestamp(now, UTC)
    if moment < certificate.not_valid_before_utc:
        raise ValueError(
            f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        )
    return _not_ended([certificate], moment, "the certificate")


def bundle_end(bundle: bytes, now: float) -> float:
    """When the last CA of a PEM bundle ends; `now` and the result in seconds since the epoch.

    Raises ValueError if there is none, or if all have ended.
    """
    return _not_ended(x509.load_pem_x509_certificates(bundle), datetime.fromtimestamp(now, UTC), "every CA")


def _not_ended(certificates: list[x509.Certificate], moment: datetime, what: str) -> float:
    end = max(certificate.not_valid_after_utc for certificate in certificates)
    if end < moment:
        raise ValueError(f"{what} has expired, on {end:%Y-%m-%d %H:%M} UTC")
    return end.timestamp()
