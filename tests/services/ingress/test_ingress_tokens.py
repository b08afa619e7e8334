"""Credentials: what proves a tenant and what does not; refusals are told of, and never say which part was wrong."""

import functools
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from headrace.hop.errors import Code, Fault
from headrace.state.tenants import TenantsFile, TenantSpec, new_key
from services.ingress.auth.authenticator import Authenticator
from services.ingress.auth.tokens import TokenVerifier, fetch_jwks
from services.ingress.config import Jwt
from services.ingress.documents.catalog import Directory
from services.ingress.request_context import RequestContext, begin
from tests import token_issuer
from tests.token_issuer import AUDIENCE, ISSUER, Publisher, jwks

PEPPER = b"0123456789abcdef"
NOW = time.time()
KEY, OTHER = token_issuer.new_key(), token_issuer.new_key()
SETTINGS = Jwt(jwks="keys.json", issuer=ISSUER, audience=AUDIENCE)
token = functools.partial(token_issuer.token, KEY)


def call(headers: dict[bytes, bytes]) -> RequestContext:
    return begin("ModelInfer", headers, 0.0, 0.0)


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
        token_issuer.token(OTHER),
        token(kid="k2"),
        token(exp=NOW - 60),
        token(exp=None),
        token(nbf=NOW + 43_200),
        token(iss="https://elsewhere"),
        token(aud="others"),
        token(aud=None),
        token(tenant="nobody"),
        token(tenant=None),
        token(tenant=["demo"]),
        token_issuer.token("a-secret-of-sufficient-length-000", "HS256"),
        token_issuer.confused(KEY),
        token(algorithm="RS512"),
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
    assert tokens.verify(token_issuer.token(OTHER)) is not None


async def test_a_key_set_is_read_from_a_file_or_by_https(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(jwks(KEY))
    assert fetch_jwks(str(path)) == jwks(KEY)
    with Publisher.running(jwks(KEY)) as publisher:
        assert fetch_jwks(publisher.url) == jwks(KEY)
        publisher.text = None
        with pytest.raises(OSError, match="503"):
            fetch_jwks(publisher.url)
    for insecure in (
        "http://issuer.example/keys",
        "http://localhost.example/keys",
        "http://127.0.0.1@issuer.example/keys",
        "ftp://127.0.0.1/keys",
        "file:///etc/passwd",
    ):
        with pytest.raises(ValueError, match="https only"):
            fetch_jwks(insecure)


def test_a_key_that_was_let_in_is_refused_once_it_is_revoked_or_over() -> None:
    text, key = new_key(
        PEPPER, created=datetime.fromtimestamp(NOW, UTC), expires=datetime.fromtimestamp(NOW + 5, UTC)
    )
    now = [float(NOW)]
    door = Authenticator(directory(keys=(key,)), PEPPER, lambda: now[0], lambda *_: None)
    headers = {b"x-api-key": text.encode()}
    for _ in range(2):
        assert door.authenticate(call(headers)).key_id == key.id
    now[0] += 6
    with pytest.raises(Fault, match="no valid credential"):
        door.authenticate(call(headers))
    now[0] -= 6
    assert door.authenticate(call(headers)).key_id == key.id
    door.replace(directory(keys=()))
    with pytest.raises(Fault, match="no valid credential"):
        door.authenticate(call(headers))


def test_keys() -> None:
    text, key = new_key(PEPPER, created=datetime.fromtimestamp(NOW, UTC))
    late_text, late = new_key(
        PEPPER, created=datetime.fromtimestamp(NOW, UTC), expires=datetime.fromtimestamp(NOW - 1, UTC)
    )
    events: list[str] = []
    door = Authenticator(
        directory(keys=(key, late)), PEPPER, lambda: NOW, lambda kind, *_: events.append(kind)
    )
    assert door.authenticate(call({b"authorization": b"Bearer " + text.encode()})).tenant.name == "demo"
    assert door.authenticate(call({b"x-api-key": text.encode()})).key_id == key.id
    refused = [{}, {b"authorization": b"Basic eA=="}]
    refused += [{b"x-api-key": key} for key in (b"hr_x", late_text.encode(), b"x" * 10_000)]
    messages = set()
    for headers in refused:
        with pytest.raises(Fault) as caught:
            door.authenticate(call(headers))
        assert caught.value.code is Code.UNAUTHENTICATED
        messages.add(caught.value.message)
    assert len(messages) == 1
    assert events[:2] == ["missing_credential", "unknown_scheme"]
    assert events[2:] == ["unknown_key", "expired_credential", "oversized_credential"]
    door.replace(directory())
    with pytest.raises(Fault):
        door.authenticate(call({b"x-api-key": text.encode()}))
