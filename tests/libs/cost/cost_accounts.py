"""Accounts of the ledger, as messages, and what they say."""

from collections.abc import Iterable, Mapping

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost import Bill, Charge, Key


def message(key: Key) -> pb.CostKey:
    return pb.CostKey(tenant=key.tenant, pipeline=key.pipeline, version=key.version, traffic=key.traffic)


def account_with(
    lines: Iterable[Charge], bills: Iterable[Bill] = (), counts: Mapping[Key, tuple[int, int]] | None = None
) -> pb.CostAccount:
    """Of the first hour of 1970. `counts`: rows and requests."""
    found = pb.CostAccount(currency="EUR", memory_gb={"router": 0.2})
    found.until.seconds = found.watched.seconds = 3600
    for c in lines:
        found.charges.add(
            key=message(c.key), service=c.service, resource=c.resource, quantity=c.quantity, amount=c.amount
        )
    for b in bills:
        found.bills.add(resource=b.resource, quantity=b.quantity, amount=b.amount)
    for key, (rows, requests) in (counts or {}).items():
        found.counts.add(key=message(key), row_count=rows, request_count=requests)
    return found


def counts_of(account: pb.CostAccount) -> dict[Key, tuple[int, int]]:
    """Rows and requests."""
    return {
        Key(c.key.tenant, c.key.pipeline, c.key.version, c.key.traffic): (c.row_count, c.request_count)
        for c in account.counts
    }
