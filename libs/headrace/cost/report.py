"""An account, grouped for people: who pays how much, what for, and what is idle."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from headrace.cost.account import Account
from headrace.cost.prices import CPU, GPU
from headrace.cost.split import Charge
from headrace.cost.usage import IDLE, OVERHEAD, Key

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

    def add(self, line: Charge) -> None:
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
    """`groups`: those that pay, the dearest first; `overhead`, `idle`: what nobody caused. `gpu_used`: part of the reserved GPUs
    that models used; None: no GPU is reserved."""

    by: By
    account: Account
    groups: list[Group]
    overhead: Group
    idle: Group
    gpu_used: float | None

    @property
    def adds_up(self) -> bool:
        """Whether the sum of all lines is the bill."""
        return abs(self.account.charged - self.account.bill) <= TOLERANCE * max(
            self.account.bill, _MIN_AMOUNT
        )

    def told(self) -> dict[str, Any]:
        """For programs."""
        found, account = self._times(), self.account
        return found | {
            "currency": account.currency,
            "bill": account.bill,
            "charged": account.charged,
            "adds_up": self.adds_up,
            "reserved": {r: {"quantity": q, "amount": a} for r, (q, a) in account.bills.items()},
            "by": self.by,
            "groups": [asdict(g) | {"per_1000": g.per_1000} for g in self.groups],
            "overhead": asdict(self.overhead),
            "idle": asdict(self.idle),
            "gpu_used": self.gpu_used,
        }

    def _times(self) -> dict[str, Any]:
        since, until = (
            datetime.fromtimestamp(t, UTC).isoformat() for t in (self.account.since, self.account.until)
        )
        return {"since": since, "until": until, "watched_s": self.account.seconds}


def report(account: Account, by: By) -> Report:
    """Groups an account."""
    groups: dict[str, Group] = {}
    nobody = {kind: Group(kind) for kind in _NOBODY}

    def group(key: Key) -> Group:
        if key.traffic in nobody:
            return nobody[key.traffic]
        name = getattr(key, by) or f"({key.traffic})"
        return groups.setdefault(name, Group(name))

    for line in account.lines:
        one = group(line.key)
        one.add(line)
    for key, (rows, requests) in account.counts.items():
        one = group(key)
        one.rows += rows
        one.requests += requests
    dearest = sorted(groups.values(), key=lambda g: -g.amount)
    return Report(by, account, dearest, nobody[OVERHEAD], nobody[IDLE], _gpu_used(account))


def _gpu_used(account: Account) -> float | None:
    reserved, _ = account.bills.get(GPU, (0.0, 0.0))
    used = sum(line.quantity for line in account.lines if line.resource == GPU and line.key.traffic != IDLE)
    return used / reserved if reserved else None
