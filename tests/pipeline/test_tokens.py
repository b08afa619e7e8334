"""JSON Web Tokens through the real door: what proves a tenant, what does not, and issuers that change their keys."""

import functools
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import jwt
import pytest
import yaml

from headrace.cli.installation import layout
from tests import token_issuer
from tests.gauges import samples
from tests.system import HOME, PREDICT, System, poll, restarted, row_request
from tests.token_issuer import AUDIENCE, ISSUER, Publisher, jwks

OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
KEY, OTHER = token_issuer.new_key(), token_issuer.new_key()
NOW = time.time()
REFRESH_S, LEEWAY_S = 0.2, 1.0
# The answer to whoever has no credential: a bad token must get the same, or it says which part was wrong.
MESSAGE = "no valid credential: send `authorization: Bearer KEY` or `x-api-key: KEY`"
token = functools.partial(token_issuer.token, KEY)


@pytest.fixture(scope="module")
def issuer(system: System) -> Iterator[Publisher]:
    """Whose tokens the door believes."""
    path = layout.of(HOME).override("ingress")
    before = yaml.safe_load(path.read_text())
    with Publisher.running(jwks(KEY)) as publisher:
        believed = {
            "jwks": publisher.url,
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "refresh_s": REFRESH_S,
            "leeway_s": LEEWAY_S,
        }
        with restarted("ingress", {**before, "jwt": believed}, before):
            yield publisher


def outcome(system: System, credential: bytes) -> tuple[grpc.StatusCode, str]:
    """How one prediction ends: its code and message."""
    try:
        system.predict(row_request(system.rows[0]), key=credential.decode())
    except grpc.RpcError as raised:
        error: Any = raised
        return error.code(), error.details() or ""
    return OK, ""


def code(system: System, credential: bytes) -> grpc.StatusCode:
    return outcome(system, credential)[0]


def security_events(system: System) -> Counter[str]:
    """Security events counted so far, by kind."""
    found = samples(system, "headrace_ingress_security_events_total", ["ingress"])
    return Counter({labels["kind"]: int(value) for labels, value in found})


def until_read_again(issuer: Publisher) -> None:
    """Waits until the door has asked for the keys, and then once more: what it got at first is in force."""
    before = issuer.asked
    poll("the door asks for the keys", lambda: issuer.asked >= before + 2)


def test_a_good_token_is_a_tenant(system: System, issuer: Publisher) -> None:
    assert issuer.asked
    for _ in range(2):  # the second time from memory
        assert code(system, token()) is OK
    assert code(system, token(scope=["read", "predict"])) is OK


def test_a_token_allows_no_more_than_its_scopes(system: System, issuer: Publisher) -> None:
    assert issuer.asked
    denied, message = outcome(system, token(scope="read"))
    assert denied is grpc.StatusCode.PERMISSION_DENIED
    assert "predict" in message


BAD = {
    "expired": token(exp=NOW - 60),
    "never expires": token(exp=None),
    "not valid yet": token(nbf=NOW + 80000),
    "wrong signature": token_issuer.token(OTHER),
    "cut off": token()[:-4],
    "wrong audience": token(aud="others"),
    "no audience": token(aud=None),
    "wrong issuer": token(iss="https://elsewhere"),
    "unknown kid": token(kid="k2"),
    "algorithm not that of the key": token(algorithm="RS512"),
    "public key as HMAC secret": token_issuer.confused(KEY),
    "a secret of nobody": token_issuer.token("a-secret-of-sufficient-length-000", "HS256"),
    "no algorithm": jwt.encode(token_issuer.claims(), "", "none", headers={"kid": "k1"}).encode(),
    "unknown tenant": token(tenant="nobody"),
    "no tenant": token(tenant=None),
    "several tenants": token(tenant=["demo"]),
    "no token at all": b"a.b.c",
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_token_is_refused_without_a_hint(system: System, issuer: Publisher, case: str) -> None:
    assert issuer.asked
    before = security_events(system)
    assert outcome(system, BAD[case]) == (REFUSED, MESSAGE)
    assert security_events(system)["bad_token"] == before["bad_token"] + 1


def test_the_refusal_is_a_401_over_http_and_a_line_in_the_log(system: System, issuer: Publisher) -> None:
    assert issuer.asked
    log = layout.of(HOME).log("ingress")
    begin = log.stat().st_size
    secret = token(aud="others").decode()
    request = urllib.request.Request(
        system.endpoints["http"] + PREDICT,
        json.dumps({"pipeline": "flights", "rows": [system.rows[0]]}).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {secret}"},
    )

    def told() -> list[str]:
        # Again and again: of many refusals in one second not each has a line.
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        with caught.value as answer:
            assert answer.code == 401
        return [line for line in log.read_bytes()[begin:].decode().splitlines() if '"bad_token"' in line]

    line, *_ = poll("the log tells of it", told)
    assert json.loads(line)["event"] == "security"
    assert secret not in log.read_text()


def test_a_token_that_was_good_ends_when_it_expires(system: System, issuer: Publisher) -> None:
    assert issuer.asked
    ends = int(time.time()) + 6
    short = token(exp=ends)
    assert code(system, short) is OK
    before = security_events(system)
    poll("the token expires", lambda: code(system, short) is REFUSED, within_s=30)
    assert time.time() >= ends + LEEWAY_S
    assert security_events(system)["expired_credential"] > before["expired_credential"]


def test_new_keys_count_within_moments_and_end_the_old_ones(system: System, issuer: Publisher) -> None:
    new = token_issuer.token(OTHER, kid="k2")
    assert [code(system, token()), code(system, new)] == [OK, REFUSED]
    issuer.text = jwks(OTHER, "k2")
    try:
        until_read_again(issuer)
        assert [code(system, token()), code(system, new)] == [REFUSED, OK]
    finally:
        issuer.text = jwks(KEY)
    until_read_again(issuer)
    assert [code(system, token()), code(system, new)] == [OK, REFUSED]


@pytest.mark.parametrize("instead", [None, "", "no JSON", '{"keys": []}', '{"keys": [{"kty": "RSA"}]}', "[]"])
def test_an_issuer_in_trouble_takes_nobody_in_or_out(
    system: System, issuer: Publisher, instead: str | None
) -> None:
    issuer.text = instead
    try:
        until_read_again(issuer)
        assert [code(system, token()), code(system, BAD["wrong signature"])] == [OK, REFUSED]
    finally:
        issuer.text = jwks(KEY)
    until_read_again(issuer)
    assert code(system, token()) is OK
