"""What was measured in one interval: what processes used, and what of their work was for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Kinds of rows, and of what no row caused.
LIVE, CACHED, REPLAYED, SHADOW = "live", "cached", "replayed", "shadow"
# Requests that the door refused.
REFUSED = "refused"
# Rows that were run to explain predictions.
EXPLAINED = "explained"
# Used, but by no prediction: starts, warm-up, the monitoring itself.
OVERHEAD = "overhead"
IDLE = "idle"

EXECUTOR, FEATURES = "executor", "features"
PREPROCESSING, POSTPROCESSING = "preprocessing", "postprocessing"
ROUTER, INGRESS = "router", "ingress"


@dataclass(frozen=True, slots=True)
class Shape:
    """CPU of a service for a request, in µs: `request` and, for each of its rows, `row`.

    Measured at full batches (load/capacity.json, 2026-11-30). Their relation divides the measured CPU of door and router, which
    report no busy time of their own; how much that is, is always measured.
    """

    request: float
    row: float

    def us(self, rows: float, requests: float = 1.0) -> float:
        return self.request * requests + self.row * rows


SHAPES: Mapping[str, Shape] = {
    INGRESS: Shape(93.1, 11.5),
    ROUTER: Shape(27.8, 12.5),
    FEATURES: Shape(16.2, 12.1),
    PREPROCESSING: Shape(7.9, 3.4),
    EXECUTOR: Shape(8.9, 3.4),
    POSTPROCESSING: Shape(5.2, 2.1),
}
# A request that the door refuses by its headers takes a part of what an answered one does.
REFUSED_PART = 0.3


@dataclass(frozen=True, slots=True)
class Key:
    """Who caused something. `version`: "MODEL:VERSION"; of several models, joined by "+"; "": of none."""

    tenant: str = ""
    pipeline: str = ""
    version: str = ""
    traffic: str = LIVE


@dataclass(slots=True)
class Work:
    """What one key caused: rows, requests, and µs of work by service. `gpu_us`: of that, on a GPU."""

    rows: int = 0
    requests: int = 0
    busy_us: dict[str, float] = field(default_factory=dict)
    gpu_us: float = 0.0

    def add(self, other: Work) -> None:
        self.rows += other.rows
        self.requests += other.requests
        self.gpu_us += other.gpu_us
        for service, spent in other.busy_us.items():
            self.busy_us[service] = self.busy_us.get(service, 0.0) + spent


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """What one process used. `service`: which it is of. `cpu_s`: since the last interval; `memory_gb`: what it holds now;
    `start_cpu_s`: what it used before it was first seen."""

    service: str
    cpu_s: float
    memory_gb: float
    start_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Interval:
    """`seconds`: how long it was. `apart`: services with processes of their own, whether these answered or not. `events_gb`: size
    of the stored events; `files_gb`: of all files, these included."""

    seconds: float
    processes: Sequence[ProcessUse]
    work: Mapping[Key, Work]
    apart: frozenset[str] = frozenset()
    events_gb: float = 0.0
    files_gb: float = 0.0
