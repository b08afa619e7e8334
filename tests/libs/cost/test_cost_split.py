"""Who pays: all charges together are the bill, and work decides who pays what; mistakes in the prices file."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cost import (
    Interval,
    Key,
    Prices,
    PricesFile,
    ProcessUse,
    Work,
    billed,
    charges,
    report,
)
from headrace.cost.prices import CPU, MEMORY
from headrace.cost.usage import IDLE, OVERHEAD, SHAPES
from headrace.hop.config import ConfigError
from tests.libs.cost.cost_accounts import account_with

SERVICES = tuple(SHAPES)
amounts = st.floats(0, 1e4, allow_subnormal=False)
keys = st.builds(
    Key,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["p", "q"]),
    st.sampled_from(["m:1", "m:2", "m:1+n:1"]),
    st.sampled_from(["live", "cached", "shadow", "refused"]),
)
works = st.builds(
    Work,
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.dictionaries(st.sampled_from(SERVICES), amounts, max_size=6),
    gpu_us=amounts,
)
processes = st.builds(ProcessUse, st.sampled_from([*SERVICES, "monitoring"]), amounts, amounts, amounts)
intervals = st.builds(
    Interval,
    st.floats(0.1, 600),
    st.lists(processes, max_size=8),
    st.dictionaries(keys, works, max_size=8),
    st.frozensets(st.sampled_from(SERVICES)),
    amounts,
    amounts,
)
prices = st.builds(
    lambda rates, reserved: Prices.model_validate({"prices": rates, "reserved": reserved}),
    st.fixed_dictionaries(
        dict.fromkeys(("core_hour", "memory_gb_hour", "gpu_hour", "storage_gb_month", "fixed_month"), amounts)
    ),
    st.fixed_dictionaries({"cores": st.floats(0.1, 100), "memory_gb": st.floats(0.1, 100), "gpus": amounts}),
)


@given(intervals, prices)
def test_the_sums_equal_the_bill(interval: Interval, in_force: Prices) -> None:
    made, bills = charges(interval, in_force), billed(interval, in_force)
    whole = account_with(made, bills, {k: (work.rows, work.requests) for k, work in interval.work.items()})
    assert report(whole, "tenant").bills[CPU].amount == pytest.approx(
        in_force.reserves(CPU) * interval.seconds * in_force.prices.of(CPU)
    )
    # Far beyond what is reserved (which this makes up), the rounding of what cancels out is more than the bill.
    size = sum(abs(line.amount) for line in made)
    for by in ("tenant", "pipeline", "version"):
        told = report(whole, by)
        groups = sum(g.amount for g in told.groups) + told.overhead.amount + told.idle.amount
        for found in (told.charged, groups):
            assert found == pytest.approx(told.bill, rel=0.001, abs=1e-9 * size + 1e-12)
        assert sum(g.rows for g in told.groups) == sum(w.rows for w in interval.work.values())


def test_a_process_is_paid_by_the_work_that_was_done_in_it() -> None:
    much, little = Key("much", "p", "m:1"), Key("little", "p", "m:1")
    interval = Interval(
        10.0,
        [
            ProcessUse("executor", 2.0, 1.0),
            ProcessUse("features", 1.0, 0.0),
            ProcessUse("monitoring", 0.5, 0.0),
        ],
        {much: Work(90, 9, {"executor": 300.0}), little: Work(10, 1, {"executor": 100.0, "features": 5.0})},
        frozenset({"executor", "features"}),
    )
    in_force = Prices.model_validate({"reserved": {"cores": 1, "memory_gb": 2}})
    found = {(c.key, c.service, c.resource): c.quantity for c in charges(interval, in_force)}
    assert found[much, "executor", CPU] == pytest.approx(1.5)
    assert found[little, "executor", CPU] == pytest.approx(0.5)
    assert found[little, "features", CPU] == pytest.approx(1.0)
    assert found[Key(traffic=OVERHEAD), "monitoring", CPU] == pytest.approx(0.5)
    assert found[Key(traffic=IDLE), "", CPU] == pytest.approx(10 - 3.5)
    assert found[much, "executor", MEMORY] == pytest.approx(7.5)
    assert found[Key(traffic=IDLE), "", MEMORY] == pytest.approx(10.0)


def test_work_of_a_process_that_did_not_answer_is_not_paid_at_the_door() -> None:
    key = Key("a", "p", "m:1")
    work = {key: Work(1, 1, {"executor": 1e6, "ingress": 1.0})}
    door = ProcessUse("ingress", 1.0, 0.0)
    apart = Interval(1.0, [door], work, frozenset({"executor", "ingress"}))
    together = Interval(1.0, [door], work, frozenset({"ingress"}))

    def cpu(interval: Interval) -> dict[str, float]:
        return {
            c.service: c.quantity for c in charges(interval, Prices()) if c.key == key and c.resource == CPU
        }

    assert cpu(apart) == {"ingress": 1.0}
    assert cpu(together) == pytest.approx({"executor": 1.0, "ingress": 0.0}, abs=1e-5)


def test_what_nobody_uses_is_idle_and_more_than_is_reserved_is_said() -> None:
    nothing = charges(Interval(60.0, [], {}), Prices())
    assert {c.key.traffic for c in nothing} == {IDLE}
    in_force = Prices.model_validate({"reserved": {"cores": 1}})
    too_much = charges(Interval(1.0, [ProcessUse("router", 3.0, 0.0)], {}), in_force)
    [idle] = [c for c in too_much if c.key.traffic == IDLE and c.resource == CPU]
    assert idle.quantity == pytest.approx(-2.0)


GOOD = "currency: EUR\nprices:\n  core_hour: 0.5\nbudget: {per_1000: 0.02, pipelines: {flights: 1}}\n"


@pytest.fixture
def file(tmp_path: Path) -> PricesFile:
    return PricesFile(tmp_path / "prices.yaml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prices:\n  core_hour: -1\n", ("line 2", "core_hour")),
        ("prices:\n  core_hours: 1\n", ("line 2", "core_hours")),
        ("currency: EUR\nreserved: {cores: 0}\n", ("line 2", "cores")),
        ("prices: [", ("line 1",)),
        ("currency: much\n", ("line 1", "currency")),
        (None, ("can't be read",)),
    ],
)
def test_a_mistake_leaves_the_last_good_one_in_force(
    file: PricesFile, text: str | None, told: tuple[str, ...]
) -> None:
    file.path.write_text(GOOD)
    assert file.refresh().prices.core_hour == 0.5
    file.path.unlink()
    file.path.write_text(text) if text is not None else file.path.mkdir()
    assert file.refresh().prices.core_hour == 0.5
    assert all(part in file.problem for part in (str(file.path), *told))
    # Who begins with it has no prices at all.
    again = PricesFile(file.path)
    for _ in range(2):
        with pytest.raises(ConfigError):
            again.refresh()
        assert again.problem == file.problem
    # It heals by itself.
    if text is None:
        file.path.rmdir()
    file.path.write_text(GOOD.replace("0.5", "0.25"))
    assert file.refresh().prices.core_hour == 0.25
    assert not file.problem


def test_without_a_file_the_defaults_are_in_force(file: PricesFile) -> None:
    assert (file.refresh(), file.problem) == (Prices(), "")
    file.path.write_text(GOOD)
    assert file.refresh().currency == "EUR"
    file.path.unlink()
    assert (file.refresh(), file.problem) == (Prices(), "")
