"""`headrace cost`, `headrace plan` and `headrace slo`, as a person types them, on a ledger and on objectives."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import Result

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cli.commands.operations import cost
from headrace.cli.console import err
from headrace.cli.installation import layout, secrets
from headrace.cli.supervision import prometheus_targets
from headrace.cost import Interval, Key, Prices, ProcessUse, Work, billed, charges, report
from headrace.hop.testing import served
from services.monitoring.cost import ledger
from services.monitoring.wiring import SERVICE
from tests.libs.cli.released_home import run
from tests.services.monitoring.alerts.alert_replay import Monitoring, door
from tests.services.monitoring.monitoring_outcomes import facts_at
from tests.web_server import Answer, Request, web_server

CAPACITY = Path(__file__).parents[3] / "load" / "capacity.json"
PRICES = Prices.model_validate({"reserved": {"cores": 2, "memory_gb": 4}})
_NOW = time.time


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    secrets.ensure(layout.of(tmp_path), datetime.now(UTC))
    (tmp_path / "settings").mkdir()
    return tmp_path


@pytest.fixture
def monitoring(home: Path) -> Iterator[None]:
    """It runs here, and its ledger has an interval."""
    with closing(facts_at(home / "facts")) as facts:
        facts.write(fill)
    begun, end = threading.Event(), asyncio.Event()
    listed = layout.of(home).listed("monitoring")
    listed.mkdir(parents=True)
    # Nobody listens there.
    cost = {"services": {"ingress": "127.0.0.1:1"}, "every_s": 3600}

    async def serve() -> None:
        async with served(SERVICE, {"database": str(home / "facts"), "cost": cost}) as harness:
            (listed / "monitoring.sock").symlink_to(harness.target.removeprefix("unix:"))
            begun.set()
            await end.wait()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=lambda: runner.run(serve()))
        thread.start()
        assert begun.wait(30)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()


def fill(connection: sa.Connection) -> None:
    work = {
        Key("much", "p", "m:2"): Work(9000, 900, {"executor": 9.0, "ingress": 9.0}),
        Key("little", "p", "m:1"): Work(1000, 100, {"executor": 1.0, "ingress": 1.0}),
    }
    used = [
        ProcessUse("executor", 3.0, 0.5),
        ProcessUse("ingress", 2.0, 0.1),
        ProcessUse("monitoring", 0.5, 0.1),
    ]
    interval = Interval(60.0, used, work, frozenset({"executor", "ingress"}))
    made, bills = charges(interval, PRICES), billed(interval, PRICES)
    ledger.add(connection, _NOW(), 60.0, "USD", made, bills, work)


def test_lines_of_tenants_and_what_is_idle_are_the_bill(home: Path, monitoring: None) -> None:
    told = json.loads(run(home, "cost", "--by", "tenant", "--json").stdout)
    [account] = told["accounts"]
    amounts = {g["name"]: g["amount"] for g in account["groups"]}
    assert list(amounts) == ["much", "little"]
    assert amounts["much"] == pytest.approx(9 * amounts["little"])
    lines = sum(amounts.values()) + account["overhead"]["amount"] + account["idle"]["amount"]
    assert lines == pytest.approx(account["bill"], rel=0.001)
    assert account["bill"] == pytest.approx((2 * 0.04 + 4 * 0.005) / 60)
    assert account["adds_up"]
    printed = run(home, "cost", "--by", "tenant").stdout
    for part in ("much", "little", "overhead", "idle", "bill", "to 0.1 %", "no GPU is reserved"):
        assert part in printed
    for by, names in (("version", ["m:2", "m:1"]), ("pipeline", ["p"])):
        [account] = json.loads(run(home, "cost", "--by", by, "--json").stdout)["accounts"]
        assert [g["name"] for g in account["groups"]] == names


def refused(result: Result, says: str) -> None:
    assert result.exit_code == 1
    assert says in " ".join(result.stderr.split())


def test_a_mistake_in_the_prices_is_told_beside_the_figures(home: Path, monitoring: None) -> None:
    (home / "settings/prices.yaml").write_text("prices:\n  core_hour: much\n")
    told = run(home, "cost")
    assert told.exit_code == 0
    assert "prices.yaml, line 2, prices.core_hour" in told.stderr.replace("\n", " ")
    assert "bill" in told.stdout


def test_without_monitoring_it_says_so(home: Path) -> None:
    refused(run(home, "cost"), "no monitoring service runs here")
    assert run(home, "cost", "--since", "soon").exit_code == 2


def test_what_rounding_leaves_is_not_more_than_what_is_reserved(home: Path, monitoring: None) -> None:
    told = run(home, "cost")
    assert "more was used than is reserved" not in told.stderr
    shown = cost._print
    found = report(pb.CostAccount(currency="USD", bills=[pb.CostBill(resource="cpu", amount=1.0)]), "tenant")
    for idle, warned in ((-1.4e-22, False), (-0.01, True)):
        found.idle.amounts["cpu"] = idle
        with err.capture() as captured:
            shown(found)
        assert ("more was used than is reserved" in captured.get()) == warned


def test_a_plan_by_the_ledger_says_what_it_goes_by(home: Path, monitoring: None) -> None:
    told = run(home, "plan", "--rate", "100", "--rows", "10", "--pipeline", "p")
    assert told.exit_code == 0, told.stderr
    for part in (
        "this home's ledger",
        "10000 rows in 1000 requests",
        "UTC",
        "executor",
        "headroom: 50%",
        "a month",
    ):
        assert part in told.stdout
    found = json.loads(run(home, "plan", "--rate", "100", "--rows", "10", "--json").stdout)
    # 5 core-seconds for 1,000 requests of these rows, at half of the peak.
    assert found["cores"] == pytest.approx(100 * 5 / 1000 / 0.5)
    far = run(home, "plan", "--rate", "100", "--rows", "500")
    assert "this is a guess" in far.stderr


def test_a_plan_by_a_recorded_measurement_needs_no_system(home: Path) -> None:
    told = run(home, "plan", "--rate", "10000", "--measurement", str(CAPACITY), "--p99", "50")
    assert told.exit_code == 0, told.stderr
    assert json.loads(CAPACITY.read_text())[0]["date"] in told.stdout
    assert "÷ 50 ms" in told.stdout


def test_what_can_t_be_planned_says_why(home: Path, monitoring: None) -> None:
    refused(run(home, "plan", "--rate", "1", "--pipeline", "q"), "1000 are needed")
    late = run(home, "plan", "--rate", "1", "--measurement", str(CAPACITY), "--p99", "0.5")
    refused(late, "can't be kept")


def test_status_comes_from_monitoring_or_from_the_prometheus_of_the_settings(home: Path) -> None:
    refused(run(home, "slo", "status"), "monitoring does not run")
    (home / "run").mkdir(exist_ok=True)
    facts = facts_at(home / "facts")
    monitoring = Monitoring(facts)
    for minute in range(10):
        monitoring.now += 60
        monitoring.read({"door": door(100 * minute, 2 * minute)})
    pages: dict[str, Callable[[str], bytes]] = {
        "query": monitoring.watch.query,
        "alerts": lambda _: monitoring.watch.pending_and_firing(),
    }

    def answer(request: Request) -> Answer:
        path, _, query = request.path.rpartition("/")[2].partition("?")
        return 200, {}, pages[path](query)

    with closing(facts), web_server(answer) as url:
        prometheus_targets.write(layout.of(home).targets, {"monitoring": url.removeprefix("http://")})
        told = run(home, "slo", "status", "--json")
        (home / "settings/slo.yaml").write_text(f"prometheus: {url}\n")
        shown = run(home, "slo", "status")
    assert told.exit_code == shown.exit_code == 1
    [one] = json.loads(told.stdout)["objectives"]
    assert (one["pipeline"], one["state"]) == ("small", "broken")
    assert one["budget_left"] == pytest.approx(-19)
    assert {a["alertname"] for a in json.loads(told.stdout)["alerts"]} == {"HeadraceErrorBudgetBurn"}
    assert "page HeadraceErrorBudgetBurn" in shown.stdout


def test_settings_of_alerts_that_can_t_be_used_say_why(home: Path) -> None:
    (home / "settings/slo.yaml").write_text("min_bad: 3\n")
    refused(run(home, "slo", "status"), "slo.yaml, line 1, min_bad")
