"""Predictions that were answered, with their trace and what became known of them, for the console's pages."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from headrace.columns import Batch, Column, DType, Rows
from headrace.events import EventGroup, GroupHeader, Mask, event_ids
from headrace.hop.errors import Code, Reason
from headrace.pipeline import ModelUse, parse
from services.monitoring.console.ports import ConsoleSources, Explain
from services.monitoring.console.requests.views import Views
from services.monitoring.events.query import Found, find
from services.monitoring.events.store import EventStore
from services.monitoring.events.values import Query
from services.monitoring.explanations.records import ColumnContribution, Explanation, ShownExplanation
from services.monitoring.outcomes.records import Outcome
from services.monitoring.queries.registry import sections
from tests.released import keep_document
from tests.services.monitoring.console.console_place import Place
from tests.services.monitoring.monitoring_events import World

REQUEST, TRACE = "9f2c7a51-5e0b-4d0e-8f3e-2b7d1c9a0e44", "4bf92f3577b34da6a3ce929d0e0e4736"
MAIL = "ann@example.com"
DOCUMENT = """
pipeline: flights
version: 1
deadline_ms: 1000
inputs: {tail: {type: string, max_bytes: 16}, email: {type: string, max_bytes: 64, pii: true}, hour: int32}
stages:
  - features: store
    feature_service: flights
    entities: [tail]
    views:
      weather: {features: {temp: float64, wind: float64}, freshness: {max_age: 1h, stale: 1h}}
      planes: {features: {seats: float64}}
  - {model: m, name: light, inputs: {x: temp}, outputs: {y: {column: delay, type: float64}}}
outputs: [delay]
"""
SHA = "16f8286624c1f9c7fd860a33cca332a1828008cc890feacd27ead75317f4b781"
HOUR_US = 3_600_000_000


T = TypeVar("T")


@dataclass
class Recorded:
    """Events in a real store; `asked`: what was looked for."""

    world: World
    outcomes: list[Outcome] = field(default_factory=list)
    asked: list[Query] = field(default_factory=list)

    async def events(self, query: Query) -> Found:
        self.asked.append(query)
        return find(self.world.store, query)

    async def over(self, what: Callable[[EventStore], T]) -> T:
        return what(self.world.store)

    async def outcomes_of(self, tenant: str, request_id: str) -> Sequence[Outcome]:
        return self.outcomes if (tenant, request_id) == ("acme", REQUEST) else []


async def explained(_: bytes) -> ShownExplanation | None:
    """Each prediction in the same way."""
    names, added, errors = ("temp", "hour"), (0.25, -0.0625), (0.004, 0.003)
    about = (b"", "acme", "flights", "", "live", "delay")
    found = Explanation(*about, 0.125, 0.3125, False, names, added, errors, ("", ""))
    values = zip(names, (4.5, 17), added, errors, ("", ""), strict=True)
    return ShownExplanation(found, [ColumnContribution(*one) for one in values], 0.0)


def recorded(place: Place, explanation: Explain | None = None) -> Recorded:
    """The home has answered a request of two rows 30 s ago, and several of one row; the first is traced."""
    revision = parse(DOCUMENT, "flights").revision
    keep_document(place.store, "flights", revision, DOCUMENT)
    at = place.wall - 30
    world = World(place.folder / "events")
    world.wall.now = at
    place.opened.append(world)
    world.take(answered(revision, at))
    traces = place.folder / "traces"
    traces.mkdir()
    (traces / "spans.jsonl").write_text(json.dumps(trace(at)) + "\n")
    made = Recorded(world, [Outcome(REQUEST, 0, "late", 1.0, True, place.wall - 5)])
    place.traces = traces
    place.requests = ConsoleSources(made.outcomes_of, made.events, made.over, explanation=explanation)

    place.panels += sections(made.over, Views(place.store), lambda: place.wall)
    return made


def answered(revision: str, at: float, tenant: str = "acme") -> EventGroup:
    """Rows 0 and 1 of the request, and eight others; the second row failed."""
    count = 10
    times = np.full(count, int(at * 1e6)) + np.arange(count)
    ids = [REQUEST, REQUEST, *(f"request-{i}" for i in range(count - 2))]
    codes = np.zeros(count, np.uint8)
    reasons = np.zeros(count, np.uint16)
    codes[1], reasons[1] = Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE
    mask = Mask(b"s" * 32)
    columns = [
        event_ids(times, np.full(count, 7, np.int64), np.arange(count) + int(times[0] % 1_000_000)),
        Column("@sequence", DType.INT64, np.arange(1, count + 1)),
        Column("@time_us", DType.INT64, times),
        Column("@row", DType.UINT32, np.array([0, 1, *[0] * (count - 2)], np.uint32)),
        Column("@code", DType.UINT8, codes),
        Column("@reason", DType.UINT16, reasons),
        Column("@latency_us", DType.INT64, np.full(count, 15_401)),
        Column("@busy_us", DType.INT64, np.full(count, 1_512)),
        Column("@cached", DType.BOOL, np.zeros(count, bool)),
        Column("@fallbacks", DType.UINT64, np.zeros(count, np.uint64)),
        Column("@stage_us/store", DType.INT64, np.full(count, 3_134)),
        Column("@age_us/weather", DType.INT64, np.array([HOUR_US // 4, 3 * HOUR_US] * (count // 2))),
        Column("@source/weather", DType.UINT8, np.array([1, 3] * (count // 2), np.uint8)),
        Column("@age_us/planes", DType.INT64, np.full(count, 48 * HOUR_US)),
        Column("@source/planes", DType.UINT8, np.ones(count, np.uint8)),
        Column.of_text("tail", ["N789JB"] * count),
        mask.column(Column.of_text("email", [MAIL] * count)),
        Column.of("hour", np.full(count, 17, np.int32)),
        Column.of("temp", np.full(count, 4.5)),
        Column.of("wind", np.full(count, 18.41248)),
        Column.of("seats", np.full(count, 200.0)),
        Column("delay", DType.FLOAT64, np.full(count, 0.26), (), codes == 0),
    ]
    traced = [f"00-{TRACE}-00f067aa0ba902b7-01" if i == REQUEST else "" for i in ids]
    rows = Rows(ids, [tenant] * count, [1] * count, [0.0] * count, traced)
    header = GroupHeader(
        "flights", 1, revision, "live", 2, "", (ModelUse("m", "light", "2", SHA),),
        inputs=("tail", "email", "hour"), features=("temp", "wind", "seats"), outputs=("delay",), masked=("email",),
    )  # fmt: skip
    return EventGroup(header, Batch.of(rows, columns))


def trace(at: float, tenant: str = "acme") -> dict[str, Any]:
    begin = int(at * 1e6)
    spans = (
        ("Predict", "ingress", "a", "", 0, 26_808, {"request_id": REQUEST, "tenant": tenant}),
        ("Infer", "router", "b", "a", 8_448, 18_085, {"rows": "2"}),
        ("store", "features", "c", "b", 11_287, 3_134, {"batch_rows": "2"}),
        ("m", "executor", "d", "b", 20_201, 1_877, {"model.name": "light", "model.version": "2"}),
    )
    return {
        "request_id": REQUEST,
        "trace_id": TRACE,
        "spans": [
            {
                "name": name, "service": service, "span_id": identity, "parent_id": parent,
                "start_unix_us": begin + start, "duration_us": took,
                "status": "FAILED_PRECONDITION" if name == "store" else "OK", "attributes": about,
            }
            for name, service, identity, parent, start, took, about in spans
        ],
    }  # fmt: skip
