"""One service behind the door: pods that start, rows that wait a little or are turned away, and what Prometheus sees of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Costs:
    """What a pod can do and what its start takes. The defaults: a leaf of `flights`, whose event loop is one core."""

    # Core-seconds of a row in a full batch, and how many times that it costs in a small one.
    row: float = 0.01
    alone: float = 1.3
    # Seconds from the decision until the pod is ready: features and executor, the image being on the node.
    start_s: float = 8.0
    # Seconds of work that may wait before the door turns more away.
    wait_s: float = 0.5


@dataclass(slots=True)
class Counters:
    """What the services' counters say: rows served, rows turned away, CPU seconds; `cold`: see `Service.step`."""

    served: float = 0.0
    refused: float = 0.0
    cpu: float = 0.0
    cold: float = 0.0


@dataclass(slots=True)
class Service:
    """Call `step` once a second."""

    costs: Costs
    replicas: int
    # When each pod is ready; those of the start are.
    pods: list[float] = field(default_factory=list)
    waiting: float = 0.0
    counters: Counters = field(default_factory=Counters)
    busy: float = 0.0

    def __post_init__(self) -> None:
        self.pods = [0.0] * self.replicas

    def ready(self, now: float) -> int:
        """Pods that take rows."""
        return sum(at <= now for at in self.pods)

    def step(self, now: float, rows: float) -> None:
        """A second in which `rows` come. Cold starts: rows that wait or are turned away while a pod is starting."""
        pods = self.ready(now)
        capacity = pods / self.costs.row
        todo = self.waiting + rows
        done = min(todo, capacity)
        if pods < len(self.pods):
            self.counters.cold += min(rows, todo - done)
        self.waiting = min(todo - done, capacity * self.costs.wait_s)
        self.busy = done / capacity if capacity else 0.0
        counters = self.counters
        counters.served += done
        counters.refused += todo - done - self.waiting
        # Natural batching: the busier, the larger the batches, the cheaper a row.
        each = self.costs.row * (self.costs.alone - (self.costs.alone - 1) * self.busy)
        counters.cpu += min(done * each, float(pods))

    def resize(self, now: float, size: int) -> None:
        """New pods are ready after their start; the youngest go first, as in Kubernetes."""
        self.pods += [now + self.costs.start_s] * (size - len(self.pods))
        self.pods = sorted(self.pods)[:size]
        self.replicas = size


@dataclass(slots=True)
class Prometheus:
    """Scrapes the counters, and answers the query of demand with rates over a window.

    A window has its increase over its length, as `rate` says of pods that were there before it and of those that were not.
    """

    every_s: int
    window_s: int
    most_offered: float
    _seen: deque[tuple[int, Counters]] = field(default_factory=deque)

    def scrape(self, now: int, counters: Counters) -> None:
        """Call each second; it looks when it is due."""
        if now % self.every_s == 0:
            self._seen.append((now, Counters(counters.served, counters.refused, counters.cpu)))
            while self._seen[0][0] < now - self.window_s:
                self._seen.popleft()

    def demand(self) -> float | None:
        """Cores; None: it has not seen enough."""
        if len(self._seen) < 2:
            return None
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        took = ended - began
        served = (last.served - first.served) / took
        refused = (last.refused - first.refused) / took
        offered = min(1 + refused / max(served, 1.0), self.most_offered)
        return (last.cpu - first.cpu) / took * offered
