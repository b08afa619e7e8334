"""Credentials: what proves a tenant and what does not; refusals are told of, and never say which part was wrong."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from headrace.hop.errors import Code, Fault
from headrace.state.tenants import TenantsFile, TenantSpec, new_key
from services.ingress.authenticating import Authenticator
from services.ingress.config import Jwt
from services.ingress.tenants import Directory
from services.ingress.tokens import TokenVerifier

PEPPER = b"0123456789abcdef"
NOW = time.time()
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SETTINGS = Jwt(jwks="keys.json", issuer="https://issuer", audience="headrace")


def jwks(key: rsa.RSAPrivateKey, kid: str = "k1") -> str:
    public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
    return json.dumps({"keys": [{**public, "kid": kid, "alg": "RS256", "use": "sig"}]})


def token(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> bytes:
    claims = {
        "iss": "https://issuer", "aud": "headrace", "exp": NOW + 600, "tenant": "demo", "scope": "predict",
    } | changes  # fmt: skip
    kept = {k: v for k, v in claims.items() if v is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid}).encode()


def directory(**spec: Any) -> Directory:
    return Directory.of(TenantsFile(tenants={"demo": TenantSpec(pipelines=("*",), **spec)}))


async def verifier(text: str | None = None) -> TokenVerifier:
    found = directory()
    made = TokenVerifier(SETTINGS, lambda: found, lambda: NOW, lambda _: text or jwks(KEY))
    await made.refresh()
    return made


async def test_a_good_token_proves_its_tenant() -> None:
    tokens = await verifier()
    for _ in range(2):  # the second time from memory
        credential = tokens.verify(token())
        assert credential is not None
        assert (credential.tenant.name, credential.scopes) == ("demo", {"predict"})


@pytest.mark.parametrize(
    "bad",
    [
        token(OTHER),
        token(kid="k2"),
        token(exp=NOW - 60),
        token(exp=None),
        token(nbf=NOW + 600),
        token(iss="https://elsewhere"),
        token(aud="others"),
        token(aud=None),
        token(tenant="nobody"),
        token(tenant=None),
        token(tenant=["demo"]),
        token("a-secret-of-sufficient-length-000", "HS256"),
        jwt.encode({"tenant": "demo"}, "", "none").encode(),
        token()[:-4],
        b"a.b.c",
    ],
)
async def test_a_bad_token_proves_nothing(bad: bytes) -> None:
    assert (await verifier()).verify(bad) is None


async def test_new_keys_end_old_tokens() -> None:
    texts = [jwks(KEY), jwks(OTHER)]
    found = directory()
    tokens = TokenVerifier(SETTINGS, lambda: found, lambda: NOW, lambda _: texts.pop(0))
    await tokens.refresh()
    assert tokens.verify(token()) is not None
    await tokens.refresh()
    assert tokens.verify(token()) is None
    assert tokens.verify(token(OTHER)) is not None


def test_keys() -> None:
    text, key = new_key(PEPPER, created=datetime.fromtimestamp(NOW, UTC))
    late_text, late = new_key(
        PEPPER, created=datetime.fromtimestamp(NOW, UTC), expires=datetime.fromtimestamp(NOW - 1, UTC)
    )
    events: list[str] = []
    door = Authenticator(
        directory(keys=(key, late)), PEPPER, lambda: NOW, lambda kind, _: events.append(kind)
    )
    assert door.authenticate({b"authorization": b"Bearer " + text.encode()}).tenant.name == "demo"
    assert door.authenticate({b"x-api-key": text.encode()}).key_id == key.id
    refused = [
        {},
        {b"authorization": b"Basic eA=="},
        {b"x-api-key": b"hr_x"},
        {b"x-api-key": late_text.encode()},
    ]
    refused.append({b"x-api-key": b"x" * 10_000})
    messages = set()
    for headers in refused:
        with pytest.raises(Fault) as caught:
            door.authenticate(headers)
        assert caught.value.code is Code.UNAUTHENTICATED
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert events == [
        "missing_credential",
        "unknown_scheme",
        "unknown_key",
        "expired_credential",
        "oversized_credential",
    ]
    door.replace(directory())
    with pytest.raises(Fault):
        door.authenticate({b"x-api-key": text.encode()})
