"""Causes at the door: quotas, credentials, overload."""

from collections.abc import Iterator
from contextlib import suppress

import grpc

from tests.alerts.alarmed_system import Alarmed, ingress_settings
from tests.alerts.causes import Causes
from tests.faults.traffic import Traffic as Crowd
from tests.repeated import repeated
from tests.system import headrace, restarted, row_request

CAUSES = Causes()


@CAUSES.add(QuotaRefusals={"tenant": "small"})
def past_its_quota(alarmed: Alarmed) -> Iterator[None]:
    limits = ("--rows-per-s", "1", "--rows-burst", "1")
    headrace("tenants", "add", "small", "--pipeline", "flights", "--scope", "predict", *limits)
    key = headrace("keys", "create", "small").split()
    secret = max(key, key=len)
    request = row_request(alarmed.system.rows[0])

    def ask() -> None:
        with suppress(grpc.RpcError):
            alarmed.system.predict(request, key=secret)

    try:
        with repeated(ask, 0.05):
            yield
    finally:
        headrace("tenants", "remove", "small", "--yes")


@CAUSES.add(AuthFailures={})
def unknown_keys(alarmed: Alarmed) -> Iterator[None]:
    request = row_request(alarmed.system.rows[0])

    def ask() -> None:
        for _ in range(5):
            with suppress(grpc.RpcError):
                alarmed.system.predict(request, key="hr_wrong_0123456789abcdef")

    with repeated(ask, 0.05):
        yield


@CAUSES.add(Overloaded={})
def small_door(alarmed: Alarmed) -> Iterator[None]:
    usual = ingress_settings(alarmed.stores)
    small = {**usual, "admission": {"initial": 8, "minimum": 8, "maximum": 8}}
    with restarted("ingress", small, usual), Crowd(alarmed.system):
        yield
