"""What the predictions of a whole system cost, by its own ledger."""

import json
import time
from typing import Any

import pytest

from tests.system import System, headrace, requests, row_request

# Two intervals of the ledger, on a machine that does much else.
_PATIENCE_S = 120.0
_ROWS = 200


@pytest.mark.slow
@pytest.mark.parametrize("system", ["apart", "together"], indirect=True)
def test_the_ledger_has_each_row_and_its_sums_are_the_bill(system: System) -> None:
    until = time.monotonic() + _PATIENCE_S
    before = _rows(_account(until))
    for i in range(_ROWS):
        system.predict(row_request(requests()[i % 10]))
    account = _account(until)
    while _rows(account) < before + _ROWS and time.monotonic() < until:
        time.sleep(1)
        account = _account(until)
    # Rows of earlier tests may have come late.
    assert _rows(account) >= before + _ROWS
    assert account["adds_up"]
    assert account["charged"] == pytest.approx(account["bill"], rel=0.001)
    [flights] = [g for g in account["groups"] if g["name"] == "flights"]
    leaves = {"features", "preprocessing", "executor", "postprocessing"}
    assert set(flights["services"]) == {"ingress", "router", *leaves}
    assert flights["per_1000"] > 0
    assert account["idle"]["amount"] > 0
    printed = headrace("cost", "--by", "version")
    assert "flights_light:1" in printed


def _account(until: float) -> dict[str, Any]:
    """What the ledger says of the last day, once it says anything."""
    while True:
        try:
            accounts: list[dict[str, Any]] = json.loads(headrace("cost", "--json"))["accounts"]
        except AssertionError:  # nothing is written yet
            if time.monotonic() > until:
                raise
            time.sleep(1)
        else:
            return accounts[-1]


def _rows(account: dict[str, Any]) -> int:
    return sum(g["rows"] for g in account["groups"] if g["name"] == "flights")
