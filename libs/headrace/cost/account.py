"""What the ledger says of a time, as the monitoring service's contract has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost.split import Bill, Charge
from headrace.cost.usage import Key

Account: TypeAlias = pb.CostAccount


def account_of(
    currency: str,
    hours: tuple[int, int],
    watched_s: float,
    lines: Iterable[Charge],
    bills: Iterable[Bill],
    counts: Mapping[Key, tuple[int, int]],
    memory_gb: Mapping[str, float],
) -> Account:
    """`hours`: beginning of the first and end of the last, since 1970 in seconds; `counts`: rows and requests; `memory_gb`: of a
    process of each service."""
    since, until = (Timestamp(seconds=seconds) for seconds in hours)
    account = pb.CostAccount(currency=currency, since=since, until=until, memory_gb=memory_gb)
    account.watched.FromMicroseconds(round(watched_s * 1e6))
    for c in lines:
        account.charges.add(
            key=key_of(c.key), service=c.service, resource=c.resource, quantity=c.quantity, amount=c.amount
        )
    for b in bills:
        account.bills.add(resource=b.resource, quantity=b.quantity, amount=b.amount)
    for key, (rows, requests) in counts.items():
        account.counts.add(key=key_of(key), row_count=rows, request_count=requests)
    return account


def key_of(key: Key) -> pb.CostKey:
    """As accounts have it."""
    return pb.CostKey(tenant=key.tenant, pipeline=key.pipeline, version=key.version, traffic=key.traffic)
