"""One interval → who pays for what. Whatever was measured, the sum of all charges is the bill: what is left over is idle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from headrace.cost.prices import CPU, FIXED, GPU, MEMORY, RESOURCES, STORAGE, Prices
from headrace.cost.usage import EXECUTOR, IDLE, INGRESS, OVERHEAD, Interval, Key

_OVERHEAD, _IDLE = Key(traffic=OVERHEAD), Key(traffic=IDLE)


@dataclass(frozen=True, slots=True)
class Charge:
    """`quantity`: in the resource's unit. `service`: where it was used; "": it has no such place."""

    key: Key
    service: str
    resource: str
    quantity: float
    amount: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What is reserved, used or not."""

    resource: str
    quantity: float
    amount: float


def billed(interval: Interval, prices: Prices) -> list[Bill]:
    """The bill of an interval: what is reserved × price × time. Storage costs at least what is used of it."""
    found = []
    for resource in RESOURCES:
        reserved = prices.reserves(resource)
        if resource == STORAGE:
            reserved = max(reserved, interval.files_gb, interval.events_gb)
        quantity = reserved * interval.seconds
        found.append(Bill(resource, quantity, quantity * prices.prices.of(resource)))
    return found


def charges(interval: Interval, prices: Prices) -> list[Charge]:
    """All charges of an interval. Where more is used than is reserved, the line of what is idle is negative."""
    quantities: defaultdict[tuple[Key, str, str], float] = defaultdict(float)
    for key, service, resource, quantity in _used(interval):
        quantities[key, service, resource] += quantity
    used: defaultdict[str, float] = defaultdict(float)
    for (_, _, resource), quantity in quantities.items():
        used[resource] += quantity
    for bill in billed(interval, prices):
        if bill.resource == FIXED:
            for key, share in _shares(interval).items():
                quantities[key, "", FIXED] += share * bill.quantity
        else:
            quantities[_IDLE, "", bill.resource] += bill.quantity - used[bill.resource]
    return [
        Charge(key, service, resource, quantity, quantity * prices.prices.of(resource))
        for (key, service, resource), quantity in quantities.items()
        if quantity
    ]


def _used(interval: Interval) -> Iterator[tuple[Key, str, str, float]]:
    """Who used how much of what, where."""
    for process in interval.processes:
        # The door's process runs what has none of its own: all services, in the shape together.
        name = process.service
        weights = {
            (key, service): spent
            for key, work in interval.work.items()
            for service, spent in work.busy_us.items()
            if spent > 0 and (service == name or (name == INGRESS and service not in interval.apart))
        }
        total = sum(weights.values())
        if process.start_cpu_s:
            yield _OVERHEAD, name, CPU, process.start_cpu_s
        memory = process.memory_gb * interval.seconds
        if not total:
            yield _OVERHEAD, name, CPU, process.cpu_s
            yield _OVERHEAD, name, MEMORY, memory
        # Each kind of service may have several processes: all are shared in the same relation.
        for (key, service), spent in weights.items():
            yield key, service, CPU, process.cpu_s * spent / total
            yield key, service, MEMORY, memory * spent / total
    for key, work in interval.work.items():
        if work.gpu_us:
            yield key, EXECUTOR, GPU, work.gpu_us / 1e6
    yield from _stored(interval)


def _stored(interval: Interval) -> Iterator[tuple[Key, str, str, float]]:
    """Events are shared by who sends rows now; all other files belong to nobody."""
    events = interval.events_gb * interval.seconds
    rows = {key: work.rows for key, work in interval.work.items() if work.rows}
    total = sum(rows.values())
    for key, count in rows.items():
        yield key, "", STORAGE, events * count / total
    others = max(interval.files_gb - interval.events_gb, 0.0) * interval.seconds
    yield _OVERHEAD, "", STORAGE, others + (0.0 if total else events)


def _shares(interval: Interval) -> Mapping[Key, float]:
    """What part each has in the work of all; nobody worked: it is idle."""
    spent = {key: sum(work.busy_us.values()) for key, work in interval.work.items()}
    total = sum(spent.values())
    return {key: s / total for key, s in spent.items() if s > 0} if total else {_IDLE: 1.0}
