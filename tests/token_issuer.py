"""Who issues JSON Web Tokens in tests: a key, the key set that is published of it, and tokens good and bad."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from tests.web_server import Answer, Request, web_server

ISSUER, AUDIENCE = "https://issuer", "headrace"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwks(key: rsa.RSAPrivateKey, kid: str = "k1") -> str:
    """The key set with the public half."""
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [{**public, "kid": kid, "alg": "RS256", "use": "sig"}]})


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says, with changes; None: not said."""
    # A day: tokens are made when tests are collected, and a whole run may take longer than tokens usually live.
    expires = time.time() + 86400
    good = {"iss": ISSUER, "aud": AUDIENCE, "exp": expires, "tenant": "demo", "scope": "predict"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def token(key: Any, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> bytes:
    """A signed token."""
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid}).encode()


def confused(key: rsa.RSAPrivateKey) -> bytes:
    """Signed by HMAC with the public key as the secret: what a verifier would take that lets the token choose."""
    # By hand, as PyJWT refuses to make one.
    secret = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = {"alg": "HS256", "typ": "JWT", "kid": "k1"}
    signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims()))
    return signed + b"." + _base64(hmac.digest(secret, signed, hashlib.sha256))


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Publisher:
    """An issuer's web server, which publishes `text` at `url`; None: it says 503."""

    def __init__(self, text: str) -> None:
        self.text: str | None = text
        self.asked = 0
        self.url = ""

    @classmethod
    @contextmanager
    def running(cls, text: str) -> Iterator[Self]:
        """One that serves in a thread of its own."""
        publisher = cls(text)
        with web_server(publisher._answer) as address:
            publisher.url = f"{address}/jwks.json"
            yield publisher

    def _answer(self, _: Request) -> Answer:
        self.asked += 1
        return (503, {}, b"") if self.text is None else (200, {}, self.text.encode())
