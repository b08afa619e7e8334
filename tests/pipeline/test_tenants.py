"""Tenants through the real door: whose key opens what, how much each may ask, and that none disturbs another."""

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import grpc
import pytest

from headrace.access import changes
from headrace.access.specs import TenantSpec, new_key
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli.installation import control_place, layout
from tests.live_access import BY, same_tenants_after
from tests.pipeline.refusals import error_info
from tests.pipeline.security import security_events
from tests.system import HOME, PREDICT, System, headrace, poll, row_request

OK, REFUSED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
SEEN_S = 60.0


@pytest.fixture(autouse=True)
def _same_tenants_after(system: System) -> Iterator[None]:
    with same_tenants_after(layout.of(HOME)):
        yield


def create(tenant: str, *options: str) -> str:
    """A new key of a tenant, as the command prints it."""
    return headrace("keys", "create", tenant, *options).strip()


def identity(key: str) -> str:
    return key.split("_")[1]


def outcome(system: System, key: str) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """How one prediction ends: its code and trailers."""
    try:
        system.predict(row_request(system.rows[0]), key=key)
    except grpc.RpcError as raised:
        error: Any = raised
        return error.code(), dict(error.trailing_metadata() or ())
    return OK, {}


def code(system: System, key: str) -> grpc.StatusCode:
    return outcome(system, key)[0]


def until(system: System, key: str, wanted: grpc.StatusCode) -> None:
    poll(f"{wanted} for the key", lambda: code(system, key) is wanted, within_s=SEEN_S)


def test_a_tenant_without_the_pipeline_is_denied(system: System) -> None:
    before = security_events(system)
    key = create("stranger", "--pipeline", "other")
    until(system, key, grpc.StatusCode.PERMISSION_DENIED)
    assert security_events(system)["denied"] > before["denied"]


def test_who_may_use_nothing_here_learns_no_names(system: System) -> None:
    key = create("curious", "--pipeline", "other")
    until(system, key, grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(grpc.RpcError) as caught:
        system.predict(row_request(system.rows[0], pipeline="flihgts"), key=key)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "this tenant may use none" in error.details()
    assert not [name for name in ("moderation", "flights") if name in error.details()]


def test_a_revoked_key_is_refused_within_seconds(system: System) -> None:
    key, other = create("leaver", "--pipeline", "flights"), create("leaver")
    until(system, key, OK)
    before = security_events(system)
    headrace("keys", "revoke", "leaver", identity(key))
    until(system, key, REFUSED)
    assert code(system, other) is OK
    assert security_events(system)["unknown_key"] > before["unknown_key"]


def test_an_expired_key_is_refused_within_seconds(system: System) -> None:
    create("guest", "--pipeline", "flights")
    now = datetime.now(UTC)
    ends = now + timedelta(seconds=15)
    key, stored = new_key(created=now, expires=ends)
    with control_place.records(layout.of(HOME)) as records:
        changes.add_key(records, "guest", stored, lambda spec: spec or TenantSpec(), BY)
    until(system, key, OK)
    before = security_events(system)
    poll("the key expires", lambda: code(system, key) is REFUSED, within_s=15 + SEEN_S)
    assert datetime.now(UTC) >= ends
    assert security_events(system)["expired_credential"] > before["expired_credential"]


def test_a_burst_of_one_tenant_leaves_the_others_alone(system: System) -> None:
    key = create("eager", "--pipeline", "flights")
    # A row in five seconds: less than a busy machine asks for, one call after the other.
    headrace("tenants", "set", "eager", "--rows-per-s", "0.2", "--rows-burst", "4")
    until(system, key, grpc.StatusCode.RESOURCE_EXHAUSTED)

    with ThreadPoolExecutor(8) as threads:
        bursts = [threads.submit(outcome, system, key) for _ in range(40)]
        others = [threads.submit(code, system, system.key) for _ in range(40)]
        answers = [burst.result() for burst in bursts]
        assert {other.result() for other in others} == {OK}
    assert {answer for answer, _ in answers} <= {OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    hints = [trailers["grpc-retry-pushback-ms"] for answer, trailers in answers if answer is not OK]
    assert len(hints) > 20
    assert all(0 < int(hint) <= 5_000 for hint in hints)
    assert_rest_says_when(system, key)
    # Who waits as long as the hint says is served.
    time.sleep(int(hints[-1]) / 1000)
    until(system, key, OK)


def assert_rest_says_when(system: System, key: str) -> None:
    """Bursts again, over HTTP."""
    connection = http.client.HTTPConnection(system.endpoints["grpc"], timeout=30)
    body = json.dumps({"pipeline": "flights", "rows": [system.rows[0]]})
    headers = {"x-api-key": key, "content-type": "application/json"}
    try:
        for _ in range(8):
            connection.request("POST", PREDICT, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != HTTPStatus.OK:
                break
    finally:
        connection.close()
    assert answer.status == HTTPStatus.TOO_MANY_REQUESTS
    assert int(answer.headers["retry-after"]) >= 1


def test_a_request_of_many_rows_costs_as_many(system: System) -> None:
    key = create("wide", "--pipeline", "flights")
    until(system, key, OK)
    # What was asked so far counts under the old limits only. The bucket gives a row in a quarter of an hour.
    headrace("tenants", "set", "wide", "--rows-per-s", "0.001", "--rows-burst", "8")
    request = row_request(*system.rows[:7])
    poll("the limit is in force", lambda: limited(system, request, key), within_s=SEEN_S)
    assert code(system, key) in (OK, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert limited(system, row_request(*system.rows[:2]), key) == "QUOTA_EXCEEDED"


def limited(system: System, request: pb.PredictRequest, key: str) -> str:
    """The reason of the refusal of a request; "": it was answered."""
    try:
        system.predict(request, key=key)
    except grpc.RpcError as raised:
        error: Any = raised
        if error.code() is REFUSED:
            return ""  # the key is not known yet
        return str(error_info(error).reason)
    return ""
