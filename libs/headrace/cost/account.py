"""What was charged in a time, as the monitoring service tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost.split import Charge
from headrace.cost.usage import Key


@dataclass(frozen=True, slots=True)
class Account:
    """What the ledger says of a time. `since`, `until`: seconds since 1970, whole hours; `seconds`: how much of it was watched.
    `lines`: the charges by key, place and resource; `bills`: resource → reserved quantity and its price. `memory_gb`: what a
    process of a service held last."""

    currency: str
    since: float
    until: float
    seconds: float
    lines: tuple[Charge, ...]
    bills: Mapping[str, tuple[float, float]]
    counts: Mapping[Key, tuple[int, int]]
    memory_gb: Mapping[str, float]

    @property
    def bill(self) -> float:
        return sum(amount for _, amount in self.bills.values())

    @property
    def charged(self) -> float:
        return sum(line.amount for line in self.lines)


def account_message(account: Account) -> pb.CostAccount:
    """The message of an account."""
    message = pb.CostAccount(
        currency=account.currency,
        since=Timestamp(seconds=int(account.since)),
        until=Timestamp(seconds=int(account.until)),
        charges=[
            pb.CostCharge(
                key=_message(line.key),
                service=line.service,
                resource=line.resource,
                quantity=line.quantity,
                amount=line.amount,
            )
            for line in account.lines
        ],
        bills=[
            pb.CostBill(resource=resource, quantity=quantity, amount=amount)
            for resource, (quantity, amount) in account.bills.items()
        ],
        counts=[
            pb.CostCount(key=_message(key), row_count=rows, request_count=requests)
            for key, (rows, requests) in account.counts.items()
        ],
        memory_gb=account.memory_gb,
    )
    message.watched.FromMicroseconds(round(account.seconds * 1e6))
    return message


def account_of(message: pb.CostAccount) -> Account:
    """The account of a message."""
    return Account(
        message.currency,
        message.since.ToSeconds(),
        message.until.ToSeconds(),
        message.watched.ToMicroseconds() / 1e6,
        tuple(Charge(_key(c.key), c.service, c.resource, c.quantity, c.amount) for c in message.charges),
        {bill.resource: (bill.quantity, bill.amount) for bill in message.bills},
        {_key(count.key): (count.row_count, count.request_count) for count in message.counts},
        dict(message.memory_gb),
    )


def _message(key: Key) -> pb.CostKey:
    return pb.CostKey(tenant=key.tenant, pipeline=key.pipeline, version=key.version, traffic=key.traffic)


def _key(message: pb.CostKey) -> Key:
    return Key(message.tenant, message.pipeline, message.version, message.traffic)
