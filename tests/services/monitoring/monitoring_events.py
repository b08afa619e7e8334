"""Groups of events and stores of them for tests."""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from headrace.columns import Batch, Column, DType, Rows
from headrace.events import EventGroup, GroupHeader, Mask, event_ids
from headrace.pipeline import ModelUse
from services.monitoring.database.facts import Facts
from services.monitoring.events.files.__main__ import answer
from services.monitoring.events.files.location import location_of
from services.monitoring.events.files.parquet import EventFiles
from services.monitoring.events.manifest.manifest import Manifest
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.query import find
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.store import Erased, EventStore
from services.monitoring.events.values import Erasure, Query
from services.monitoring.outcomes.erasure import erase
from tests.services.clock import Clock
from tests.services.monitoring.monitoring_outcomes import NOW, Log, facts_at

MODELS = (ModelUse("sum", "adder", "7", "ab" * 32),)
SALT = b"s" * 32
NO_MASK = Mask(None)


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


def answered(
    labels: Sequence[float],
    codes: Sequence[int] = (),
    *,
    first: int = 1,
    drawn: Sequence[bool] = (),
    keys: Sequence[str] = (),
    **header: Any,
) -> EventGroup:
    """Events of requests r<first> … with the output `late`, null where NaN or failed, and `p`, by which it is right with 0.75.
    `drawn`, `keys`: of each row; (): none has one."""
    count, given = len(labels), np.array(labels)
    common, failed = group(first, count, apart_us=0).batch, np.array(codes or [0] * count, np.uint8)
    columns = [
        *(c for name, c in common.columns.items() if name[0] == "@" and "/" not in name and name != "@code"),
        Column("@code", DType.UINT8, failed),
        Column("late", DType.BOOL, np.nan_to_num(given) > 0, (), ~np.isnan(given) & (failed == 0)),
        Column.of("p", np.where(given > 0, 0.75, 0.25)),
        Column.of("both", np.tile(np.array([0.25, 0.75]), (count, 1))),
        Column.of_text("word", ["x"] * count),
    ]
    columns += [Column.of("@drawn", np.array(drawn))] if drawn else []
    columns += [replace(Mask(SALT).column(Column.of_text("key", keys)), name="@key")] if keys else []
    models, outputs = (ModelUse("light", "delay", "7", "ab" * 32),), ("late", "p", "both", "word")
    about = GroupHeader("flights", 3, "f" * 64, "live", 5, models=models, outputs=outputs)
    return EventGroup(replace(about, **header), Batch.of(common.rows, columns))


class Here:
    """As the process that has the files, in this one: it starts at once."""

    def __init__(self, settings: EventStorage) -> None:
        self.files = EventFiles(location_of(str(settings.files)), settings.question_bytes, 1)

    def run(self, method: str, *args: object) -> Any:
        done, found = answer(self.files, method, args)
        if not done:
            raise found
        return found

    def close(self) -> None:
        pass


class World:
    """A store with clocks. `again`: another process on the same database and files, both from the beginning."""

    def __init__(self, folder: Path, address: str = "", files: str = "", **settings: Any) -> None:
        """`address`, `files`: if not below `folder`."""
        self.settings = EventStorage(files=files or str(folder / "files"), **settings)
        self._address = address or str(folder / "facts.sqlite")
        self.wall, self.log = Clock(NOW), Log()
        self.metrics = EventMetrics(CollectorRegistry())
        self.store, self.facts = self._opened()

    def _opened(self) -> tuple[EventStore, Facts]:
        facts = facts_at(self._address, self.log)
        self.worker = Here(self.settings)
        store = EventStore(
            Manifest(facts), self.worker, self.settings, self.metrics.files, self.wall, self.log
        )
        return store, facts

    def again(self) -> None:
        self.close()
        self.store, self.facts = self._opened()

    def take(
        self, *groups: EventGroup, epoch: int = 7, noted: int = 0, durable: bool = False
    ) -> tuple[int, int]:
        taken = self.store.take("router-1", epoch, noted, groups, durable=durable)
        return taken.stored, taken.dropped

    def stored(self, *groups: EventGroup, **options: Any) -> None:
        """Takes them, and puts all into files."""
        if groups:
            self.take(*groups, **options)
        self.store.close_due(everything=True)

    def close(self) -> None:
        self.store.close()
        self.facts.close()

    def requests(self, query: Query | None = None) -> list[str]:
        """Ids of those that are found."""
        return sorted(str(e["request_id"]) for e in find(self.store, query or Query(limit=1000)).events)

    def erase(self, who: Erasure, mask: Mask = NO_MASK) -> Erased:
        subjects = [
            replace(one, masked=mask.hash(one.column, one.value.encode()) if mask.finds else None)
            for one in who.subjects
        ]
        return self.store.erase(replace(who, subjects=tuple(subjects)), partial(erase, clock=self.wall))

    def content(self, path: str) -> bytes:
        with self.worker.files._fs.open_input_file(self.worker.files._at(path)) as file:
            return bytes(file.read())

    def put(self, path: str, content: bytes) -> None:
        """A file, behind the store's back."""
        with self.worker.files._fs.open_output_stream(self.worker.files._at(path)) as stream:
            stream.write(content)

    @property
    def paths(self) -> list[str]:
        """Of the files that are there."""
        return list(self.worker.run("listed"))
