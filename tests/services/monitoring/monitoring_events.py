"""Groups of events and stores of them for tests."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, DType, Rows
from headrace.events import EventGroup, GroupHeader, Mask, event_ids
from headrace.pipeline import ModelUse
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.storage.far import far_segments
from services.monitoring.events.storage.index import SCHEMA, EventIndex
from services.monitoring.events.storage.store import EventStore
from services.monitoring.outcomes.database import Database
from tests.services.clock import Clock
from tests.services.monitoring.monitoring_outcomes import NOW, Log

MODELS = (ModelUse("sum", "adder", "7", "ab" * 32),)
SALT = b"s" * 32


def group(
    first: int,
    count: int,
    *,
    tenants: Sequence[str] = ("acme",),
    pipeline: str = "flights",
    now: float = NOW,
    mask: Mask | None = None,
    failed: tuple[int, int] = (0, 0),
    apart_us: int = 1,
) -> EventGroup:
    """Events with the numbers from `first` on, of requests `r<number>` of tenants in turn; x is the number, key `k<number>`.

    `failed`: code and reason of all. `apart_us`: between two events; 0: they came in one batch."""
    numbers = np.arange(first, first + count)
    times = np.full(count, int(now * 1e6)) + numbers * apart_us
    owners = [tenants[i % len(tenants)] for i in range(count)]
    key = Column.of_text("key", [f"k{n}" for n in numbers])
    masked = ("key",) if mask else ()
    columns = [
        event_ids(times, np.full(count, secrets.randbits(62)), numbers),
        Column("@sequence", DType.INT64, numbers),
        Column("@time_us", DType.INT64, times),
        Column("@row", DType.UINT32, np.zeros(count, np.uint32)),
        Column("@code", DType.UINT8, np.full(count, failed[0], np.uint8)),
        Column("@reason", DType.UINT16, np.full(count, failed[1], np.uint16)),
        Column("@latency_us", DType.INT64, numbers * 10),
        Column("@busy_us", DType.INT64, numbers * 5),
        Column("@cached", DType.BOOL, numbers % 2 == 0),
        Column("@fallbacks", DType.UINT64, np.ones(count, np.uint64)),
        Column("@stage_us/sum", DType.INT64, numbers * 3),
        Column.of("x", numbers),
        mask.column(key) if mask else key,
        Column.of("vector", np.ones((count, 3), np.float32)),
        Column("y", DType.FLOAT32, numbers.astype(np.float32), (), numbers % 3 != 0),
    ]
    rows = Rows([f"r{n}" for n in numbers], owners, [1] * count, [0.0] * count, [""] * count)
    header = GroupHeader(
        pipeline,
        3,
        "f" * 64,
        "live",
        2,
        "",
        MODELS,
        ("store:default",),
        ("x", "key", "vector"),
        (),
        ("y",),
        masked,
    )
    return EventGroup(header, Batch.of(rows, columns))


class World:
    """A store in a folder with clocks. `again`: another process on the same folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = EventStorage(folder=folder, **settings)
        self.clock, self.wall, self.log = Clock(0.0), Clock(NOW), Log()
        self.metrics = EventMetrics(CollectorRegistry())
        self._stores: list[EventStore] = []
        self.store = self.again()

    def again(self) -> EventStore:
        index = EventIndex(
            Database(self.folder / "index.sqlite", self.log, schema=SCHEMA, holds="the index of events")
        )
        self.far = far_segments(self.settings, self.clock)
        self.store = EventStore(
            self.folder,
            index,
            self.settings,
            self.metrics.segments,
            self.clock,
            self.wall,
            self.log,
            self.far,
        )
        self._stores.append(self.store)
        self.store.start()
        return self.store

    def take(
        self, *groups: EventGroup, epoch: int = 7, noted: int = 0, durable: bool = False
    ) -> tuple[int, int]:
        taken = self.store.take("router-1", epoch, noted, groups, durable=durable)
        return taken.stored, taken.dropped

    def stored(self, *groups: EventGroup, **options: Any) -> None:
        """Takes them, and closes all segments."""
        if groups:
            self.take(*groups, **options)
        self.store.close_due(everything=True)

    def abandon(self) -> None:
        """As if the process were killed: its files lose their locks, nothing is closed."""
        for segment in self.store._open.values():
            segment.release()
        self.store.index.close()

    def close(self) -> None:
        """Lets go of all files."""
        for store in self._stores:
            for segment in store._open.values():
                segment.release()
            store.index.close()

    @property
    def segments(self) -> list[Path]:
        return sorted((self.folder / "segments").glob("*.parquet"))
