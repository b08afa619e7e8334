"""The section of a pipeline's page that tells what it cost."""

from collections.abc import Sequence

import pytest

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost import Bill, Charge, Key
from headrace.cost.usage import IDLE
from services.monitoring.cost.panel import CostPanel
from tests.libs.cost.cost_accounts import account_with

A, B = Key("a", "p", "m:1"), Key("b", "p", "m:1")
LINES = (
    Charge(A, "executor", "cpu", 1.0, 3.0),
    Charge(B, "router", "cpu", 1.0, 1.0),
    Charge(Key("a", "q", "m:1"), "executor", "cpu", 1.0, 2.0),
    Charge(Key(traffic=IDLE), "", "cpu", 10.0, 14.0),
)
ACCOUNT = account_with(LINES, [Bill("cpu", 13.0, 20.0)], {A: (1500, 10), B: (500, 10)})


async def panel(
    pipeline: str, budget: float | None, accounts: Sequence[pb.CostAccount] = (ACCOUNT,)
) -> CostPanel:
    async def of(since: float) -> Sequence[pb.CostAccount]:
        return accounts

    return CostPanel(of, lambda _: budget, lambda: 0.0)


@pytest.mark.parametrize(("budget", "level"), [(None, "none"), (1.9, "bad"), (2.1, "good")])
async def test_it_says_the_price_of_predictions_and_who_pays(budget: float | None, level: str) -> None:
    found = await (await panel("p", budget))("p")
    assert found is not None
    text = found.sentence.replace("\u00a0", " ")
    assert "4.00 EUR in the last 24 hours; 2.00 EUR for 1,000 predictions" in text
    assert "Idle, for all pipelines: 14.00 EUR of a bill of 20.00 EUR" in text
    assert found.level == level
    assert [(row.label, row.share) for row in found.rows] == [
        ("executor", 0.75),
        ("router", 0.25),
        ("tenant a", 0.75),
        ("tenant b", 0.25),
        ("1,000 rows of m:1", 1.0),
    ]
    assert (found.data["per_1000"], found.data["adds_up"]) == (2.0, True)


async def test_the_versions_of_its_arms_are_compared() -> None:
    new, elsewhere = Key("a", "p", "m:2"), Key("a", "q", "n:1")
    lines = (
        *LINES[:2],
        Charge(new, "executor", "cpu", 1.0, 1.0),
        Charge(elsewhere, "executor", "cpu", 1.0, 9.0),
    )
    counts = {A: (1500, 10), B: (500, 10), new: (250, 10), elsewhere: (1, 1)}
    account = account_with(lines, [Bill("cpu", 13.0, 20.0)], counts)
    found = await (await panel("p", None, (account,)))("p")
    assert found is not None
    rows = {row.label: (row.value.replace("\u00a0", " "), row.share) for row in found.rows}
    assert rows["1,000 rows of m:1"] == ("2.00 EUR", 0.5)
    assert rows["1,000 rows of m:2"] == ("4.00 EUR", 1.0)
    assert "1,000 rows of n:1" not in rows


async def test_without_charges_there_is_no_section() -> None:
    assert await (await panel("r", None))("r") is None
    assert await (await panel("p", None, ()))("p") is None
