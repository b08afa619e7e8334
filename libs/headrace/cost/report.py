"""An account, grouped for people: who pays how much, what for, and what is idle."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC
from typing import Any, Literal

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost.prices import CPU, GPU
from headrace.cost.usage import IDLE, OVERHEAD

By = Literal["tenant", "pipeline", "version"]
# What nobody caused, and so no group has.
_NOBODY = (OVERHEAD, IDLE)
TOLERANCE = 0.001
_MIN_AMOUNT = 1e-12


@dataclass(slots=True)
class Group:
    """`amounts`: by resource; `services`: by service, CPU and memory together; `traffic`: by kind of rows."""

    name: str
    rows: int = 0
    requests: int = 0
    amount: float = 0.0
    cpu_s: float = 0.0
    amounts: dict[str, float] = field(default_factory=dict)
    services: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, float] = field(default_factory=dict)

    def add(self, line: pb.CostCharge) -> None:
        self.amount += line.amount
        if line.resource == CPU:
            self.cpu_s += line.quantity
        for sums, name in (
            (self.amounts, line.resource),
            (self.services, line.service),
            (self.traffic, line.key.traffic),
        ):
            if name:
                sums[name] = sums.get(name, 0.0) + line.amount

    @property
    def per_1000(self) -> float | None:
        """Price of 1,000 rows; None: there are none."""
        return self.amount / self.rows * 1000 if self.rows else None


@dataclass(frozen=True, slots=True)
class Report:
    """`groups`: those that pay, the dearest first; `overhead`, `idle`: what nobody caused."""

    by: By
    account: pb.CostAccount
    groups: list[Group]
    overhead: Group
    idle: Group

    @property
    def bills(self) -> dict[str, pb.CostBill]:
        """By resource."""
        return {bill.resource: bill for bill in self.account.bills}

    @property
    def bill(self) -> float:
        return sum(bill.amount for bill in self.account.bills)

    @property
    def charged(self) -> float:
        return sum(line.amount for line in self.account.charges)

    @property
    def adds_up(self) -> bool:
        """Whether the sum of all lines is the bill."""
        return abs(self.charged - self.bill) <= TOLERANCE * max(self.bill, _MIN_AMOUNT)

    @property
    def gpu_used(self) -> float | None:
        """The part of the reserved GPUs that models used; None: no GPU is reserved."""
        reserved = self.bills[GPU].quantity if GPU in self.bills else 0.0
        lines = (line for line in self.account.charges if line.resource == GPU and line.key.traffic != IDLE)
        return sum(line.quantity for line in lines) / reserved if reserved else None

    def values(self) -> dict[str, Any]:
        """For programs."""
        account = self.account
        return {
            "since": account.since.ToDatetime(UTC).isoformat(),
            "until": account.until.ToDatetime(UTC).isoformat(),
            "watched_s": account.watched.ToMicroseconds() / 1e6,
            "currency": account.currency,
            "bill": self.bill,
            "charged": self.charged,
            "adds_up": self.adds_up,
            "reserved": {r: {"quantity": b.quantity, "amount": b.amount} for r, b in self.bills.items()},
            "by": self.by,
            "groups": [asdict(g) | {"per_1000": g.per_1000} for g in self.groups],
            "overhead": asdict(self.overhead),
            "idle": asdict(self.idle),
            "gpu_used": self.gpu_used,
        }


def report(account: pb.CostAccount, by: By) -> Report:
    """Groups an account."""
    groups: dict[str, Group] = {}
    nobody = {kind: Group(kind) for kind in _NOBODY}

    def group(key: pb.CostKey) -> Group:
        if key.traffic in nobody:
            return nobody[key.traffic]
        name = getattr(key, by) or f"({key.traffic})"
        return groups.setdefault(name, Group(name))

    for line in account.charges:
        group(line.key).add(line)
    for count in account.counts:
        one = group(count.key)
        one.rows += count.row_count
        one.requests += count.request_count
    dearest = sorted(groups.values(), key=lambda g: -g.amount)
    return Report(by, account, dearest, nobody[OVERHEAD], nobody[IDLE])
