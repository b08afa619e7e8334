"""Plans: what a load needs by what was measured, and why not more."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost import Charge, Key, Measurement, PlanError, Prices, of_account, of_file, plan
from headrace.cost.usage import EXPLAINED, IDLE, SHADOW, SHAPES, Shape
from tests.libs.cost.cost_accounts import account_with

CAPACITY = Path(__file__).parents[3] / "load" / "capacity.json"
MEASURED = Measurement(
    "here", "today", {"router": Shape(100.0, 10.0), "executor": Shape(0.0, 100.0)}, {"router": 0.5}
)
# What is computed, but no caller asked for it.
BESIDE_REQUESTS = (EXPLAINED, SHADOW)
PRICES = Prices.model_validate({"prices": {"core_hour": 0.04, "memory_gb_hour": 0.0}})


def account(rows: int, requests: int) -> pb.CostAccount:
    """A ledger in which the router used twice what its shape says."""
    key = Key("a", "p", "m:1")
    used = SHAPES["router"].us(rows, requests) * 2 / 1e6
    lines = (
        Charge(key, "router", "cpu", used, 1.0),
        Charge(Key("a", "other", "m:1"), "router", "cpu", 5.0, 1.0),
        Charge(Key(traffic=IDLE), "", "cpu", 100.0, 1.0),
        *(Charge(replace(key, traffic=traffic), "router", "cpu", 50.0, 1.0) for traffic in BESIDE_REQUESTS),
    )
    counts = {replace(key, traffic=traffic): (64 * rows, requests) for traffic in BESIDE_REQUESTS}
    return account_with(lines, counts={key: (rows, requests), **counts})


def test_cores_processes_memory_and_price() -> None:
    found = plan(MEASURED, PRICES, 1000.0, 10, None, 0.5)
    needs = {n.service: n for n in found.needs}
    assert (needs["router"].us, needs["executor"].us) == (200.0, 1000.0)
    assert (needs["router"].cores, needs["executor"].cores) == (pytest.approx(0.4), pytest.approx(2.0))
    assert (needs["router"].processes, needs["executor"].processes) == (1, 2)
    assert found.memory_gb == pytest.approx(0.5 + 0.2)
    assert found.per_month == pytest.approx(2.4 * 0.04 * 730)
    assert found.per_million == pytest.approx(2.4 * 0.04 / 3600 / 1000 * 1e6)


@pytest.mark.parametrize(("p99_ms", "headroom"), [(1000.0, 0.5), (10.0, 0.4474), (6.0, 0.079)])
def test_a_demanded_p99_bounds_how_full_cores_may_be(p99_ms: float, headroom: float) -> None:
    found = plan(MEASURED, PRICES, 1000.0, 10, p99_ms, 0.5)
    assert found.headroom == pytest.approx(headroom, abs=1e-3)
    assert f"{p99_ms:g} ms" in found.why


def test_a_p99_below_the_work_can_t_be_kept() -> None:
    with pytest.raises(PlanError, match=r"5 ms can't be kept: a request takes 1\.2 ms of CPU"):
        plan(MEASURED, PRICES, 1000.0, 10, 5.0, 0.5)


def test_from_the_ledger_of_one_pipeline() -> None:
    measured = of_account(account(5000, 1000), "p", "ledger")
    assert measured.shapes["router"].us(5) == pytest.approx(2 * SHAPES["router"].us(5))
    assert measured.rows == 5.0
    assert list(measured.shapes) == ["router"], "what explanations took is no load"
    assert "1970-01-01 00:00 to 1970-01-01 01:00 UTC, 5000 rows in 1000 requests" in measured.when


def test_too_few_rows_are_no_measurement() -> None:
    with pytest.raises(PlanError, match="ledger has 0 rows of none; 1000 are needed"):
        of_account(account(5000, 1000), "none", "ledger")
    with pytest.raises(PlanError, match="has 999 rows"):
        of_account(account(999, 10), "", "ledger")


def test_from_a_recorded_measurement() -> None:
    measured = of_file(CAPACITY, "apart")
    figures = json.loads(CAPACITY.read_text())
    best = min(
        (f for f in figures if f["shape"] == "apart" and f["rows"] == 64),
        key=lambda f: sum(f["services_us"].values()),
    )
    for service, us in best["services_us"].items():
        assert measured.shapes[service].us(64) == pytest.approx(us)
    # What door and router are divided by is what was measured.
    for service, shape in SHAPES.items():
        assert shape.us(1) == pytest.approx(measured.shapes[service].us(1), rel=0.03)
        assert shape.us(64) == pytest.approx(measured.shapes[service].us(64), rel=0.03)


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", "no", '[{"shape": "apart"}]'])
def test_a_file_that_is_no_measurement_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(PlanError, match="is no measurement"):
        of_file(path, "apart")
    with pytest.raises(PlanError, match="can't be read"):
        of_file(tmp_path / "absent.json", "apart")
