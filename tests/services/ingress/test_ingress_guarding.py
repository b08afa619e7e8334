"""The extraction guard: different rows are counted, the same ones are not; over processes, restarts and full disks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.access.specs import QuotaSpec
from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import Pipeline, parse
from headrace.state.queries import QueryTable, slots_for, used
from services.ingress.admission.extraction_guard import ExtractionGuard
from services.ingress.admission.quotas import QuotaFault
from services.ingress.admission.row_key import RowKey
from services.ingress.documents.catalog import Credential, Tenant
from services.ingress.request_context import RequestContext, begin
from tests.services.ingress.ingress_door import PIPELINE

NOON = 1_800_014_400.0
PIPE: Pipeline = parse(PIPELINE, "pipeline.yaml")
OTHER: Pipeline = parse(PIPELINE.replace("pipeline: double", "pipeline: triple"), "pipeline.yaml")


def call(budget: int | None, tenant: str = "acme") -> RequestContext:
    context = begin("ModelInfer", {}, 0.0, 0.0)
    limits = QuotaSpec(distinct_queries_per_day=budget)
    context.credential = Credential(Tenant(tenant, frozenset("*"), limits, 1), "k", frozenset())
    return context


def batch(numbers: Sequence[int], word: bytes | None = b"w", failed: Sequence[int] = ()) -> Batch:
    count = len(numbers)
    x = np.stack([np.array(numbers, np.float32), np.ones(count, np.float32)], axis=1)
    columns = [
        Column.of("x", x),
        Column.of("n", np.array(numbers, np.int32) % 10),
        Column.of_bytes("word", [word] * count),
    ]
    error = RowError(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE, "wrong")
    rows = Rows.one_request(count, "r", "acme", 1e9, 1, "")
    return Batch(rows, {c.name: c for c in columns}, dict.fromkeys(failed, error))


class Guard:
    def __init__(self, folder: Path | None) -> None:
        self.now = NOON
        self.events: list[tuple[str, dict[str, str]]] = []
        self.complaints: list[OSError] = []
        self.guard = ExtractionGuard(
            folder,
            RowKey(folder, self.complaints.append),
            lambda: self.now,
            lambda kind, _, details: self.events.append((kind, dict(details))),
            self.complaints.append,
        )

    def asks(
        self, numbers: Sequence[int], budget: int | None = 10, pipeline: Pipeline = PIPE, **more: Any
    ) -> None:
        self.guard.check(call(budget), pipeline, batch(numbers, **more))

    def refusal(self, numbers: Sequence[int], budget: int = 10) -> QuotaFault:
        with pytest.raises(QuotaFault) as caught:
            self.asks(numbers, budget)
        return caught.value


@pytest.mark.parametrize("in_file", [True, False])
def test_different_rows_count_once_and_the_budget_ends_them(tmp_path: Path, in_file: bool) -> None:
    guard = Guard(tmp_path if in_file else None)
    for _ in range(3):
        guard.asks(range(7))
        guard.asks([1, 1, 6])
    assert guard.events == []
    guard.asks([7])
    assert [kind for kind, _ in guard.events] == ["extraction_warning"]  # at 80 %
    # All or none: two are left, three are asked.
    fault = guard.refusal([20, 21, 22])
    assert (fault.code, fault.reason) == (Code.RESOURCE_EXHAUSTED, Reason.REASON_QUERY_BUDGET_EXCEEDED)
    assert fault.metadata["quota"] == "queries"
    assert fault.metadata["limiter"] == "tenant_queries"
    assert not fault.empty
    assert fault.retry_after_s == 86_400 - NOON % 86_400
    guard.asks([20, 21])
    guard.refusal([22])
    guard.asks([*range(8), 20, 21])  # what was asked before is free
    assert [kind for kind, _ in guard.events] == ["extraction_warning", *["extraction_guard"] * 2]
    assert guard.events[-1][1] == {"pipeline": "double", "budget": "10", "asked": "10"}


def test_what_is_a_different_row(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard.asks([1], budget=3, word=b"ab")
    guard.asks([1], budget=3, word=b"a")
    guard.asks([1], budget=3, word=None)
    guard.asks([1], budget=3, word=b"a")
    with pytest.raises(QuotaFault):
        guard.asks([1], budget=3, word=b"")


def test_rows_that_are_not_asked_do_not_count(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard.asks(range(10), failed=[0, 1, 2])
    guard.asks([100, 101, 102])
    guard.refusal([103])


def test_pipelines_tenants_and_days_have_sets_of_their_own(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard.asks(range(10))
    guard.asks(range(10, 20), pipeline=OTHER)
    guard.guard.check(call(10, "other"), PIPE, batch(range(30, 40)))
    guard.refusal([50])
    guard.now += 43_200
    guard.asks(range(50, 60))
    assert {path.name[:8] for path in tmp_path.glob("*.seen")} == {"20270116"}


def test_without_a_budget_nothing_is_kept(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    guard.asks(range(100), budget=None)
    assert list(tmp_path.glob("*.seen")) == []


def test_processes_and_restarts_count_in_one_set(tmp_path: Path) -> None:
    one, other = Guard(tmp_path), Guard(tmp_path)
    one.asks(range(5))
    other.asks(range(3, 10))
    one.refusal([10])
    other.refusal([10])
    again = Guard(tmp_path)
    again.refusal([10])
    again.asks(range(10))
    assert [(use.pipeline, use.count) for use in used(tmp_path, "20270115")] == [("double", 10)]


def test_a_budget_that_is_changed_keeps_what_was_asked(tmp_path: Path) -> None:
    guard, other = Guard(tmp_path), Guard(tmp_path)
    guard.asks(range(10))
    guard.asks(range(2_000), budget=2_000)
    other.refusal([2_000], budget=2_000)
    guard.refusal([2_000], budget=2_000)
    guard.refusal([2_000], budget=10)
    other.refusal([2_000], budget=10)
    Guard(tmp_path).refusal([2_000], budget=10)


def test_a_file_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    Guard(tmp_path).asks([1])
    [path] = tmp_path.glob("*.seen")
    os.truncate(path, 100)
    guard = Guard(tmp_path)
    guard.asks(range(10))
    guard.refusal([10])
    assert guard.complaints == []


def test_a_table_that_is_overfull_is_still_searched() -> None:
    table = QueryTable.in_memory(slots_for(10))
    table.add(range(1, 5_000))
    assert table.count < 1_024
    assert list(table.new([3, 4_900_000])) == [4_900_000]


def test_a_full_disk_is_counted_in_memory_and_made_up_for(small_disk: Path) -> None:
    guard = Guard(small_disk / "queries")
    (small_disk / "fill").write_bytes(bytes((1024 - 8) * 1024))
    guard.asks(range(10))
    guard.refusal([10])
    assert len(guard.complaints) == 1
    guard.now += 11
    guard.refusal([10])
    (small_disk / "fill").unlink()
    guard.now += 11
    guard.asks([5])
    assert [use.count for use in used(small_disk / "queries", "20270115")] == [10]
    Guard(small_disk / "queries").refusal([10])


def test_the_hash_depends_on_the_key(tmp_path: Path) -> None:
    Guard(tmp_path).asks(range(10))
    (tmp_path / "rows.key").unlink()
    Guard(tmp_path).refusal([3])
