"""What processes used, read again and again: nothing twice, nothing lost, and each to whom it belongs."""

import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.cost import Key, Work, report
from headrace.cost.account import key_of
from headrace.cost.usage import IDLE, OVERHEAD, REFUSED
from services.monitoring.cost import ledger
from services.monitoring.cost.processes import TargetsError, resolved
from services.monitoring.cost.settings import CostSettings
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import StorageError
from tests.libs.cost.cost_accounts import counts_of
from tests.services.monitoring.cost.cost_world import A, B, World, cpu_s, page

EXECUTOR = "executor"


@pytest.fixture
def world(tmp_path: Path, facts: Facts) -> World:
    return World(tmp_path, facts)


def work(us: float, rows: int = 1) -> Work:
    return Work(rows, rows, {EXECUTOR: us})


def test_each_interval_counts_what_is_new_since_the_last(world: World) -> None:
    with world.collector() as collector:
        assert world.later(collector, 0, {A: work(5.0)}, executor=page(100.0)) is None
        world.later(collector, 10, {A: work(3.0), B: work(1.0)}, executor=page(103.0))
        world.later(collector, 10, {B: work(7.0)}, executor=page(104.0))
    account = world.account()
    assert cpu_s(account, A) == pytest.approx(2.25)
    assert cpu_s(account, B) == pytest.approx(1.75)
    assert account.watched.seconds == 20
    assert report(account, "tenant").charged == pytest.approx(report(account, "tenant").bill, rel=1e-9)
    assert counts_of(account) == {A: (1, 1), B: (2, 2)}


def test_two_processes_that_collect_count_nothing_twice(world: World) -> None:
    with world.collector() as one, world.collector() as other:
        world.later(one, 0, executor=page(10.0))
        world.later(other, 10, {A: work(1.0)}, executor=page(12.0))
        world.later(one, 10, {B: work(1.0)}, executor=page(15.0))
    account = world.account()
    assert (cpu_s(account, A), cpu_s(account, B)) == (pytest.approx(2.0), pytest.approx(3.0))
    assert account.watched.seconds == 20


def test_an_interval_whose_commit_nobody_confirmed_counts_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = world.facts.write
    monkeypatch.setattr(world.facts, "write", lambda work: [write(work), write(work)][1])
    with world.collector() as collector:
        assert world.later(collector, 0, {A: work(1.0)}, executor=page(10.0)) is None
        found = world.later(collector, 10, {A: work(1.0)}, executor=page(12.0))
    assert found is not None
    assert cpu_s(world.account(), A) == pytest.approx(2.0)
    assert counts_of(world.account()) == {A: (1, 1)}


def test_the_start_of_a_process_is_nobody_s(world: World) -> None:
    with world.collector() as collector:
        world.later(collector, 0, executor=page(10.0, started=1.0))
        world.later(collector, 10, {A: work(1.0)}, executor=page(6.0, started=2.0))  # it was replaced
        world.later(collector, 10, {A: work(1.0)}, executor=page(7.0, started=2.0))
    account = world.account()
    assert cpu_s(account, Key(traffic=OVERHEAD)) == pytest.approx(6.0)
    assert cpu_s(account, A) == pytest.approx(1.0)


def test_a_time_in_which_nobody_watched_is_not_billed(world: World) -> None:
    with world.collector() as collector:
        world.later(collector, 0, executor=page(10.0))
        assert world.later(collector, 86_400, {A: work(1.0)}, executor=page(500.0)) is None
        world.later(collector, 10, {A: work(1.0)}, executor=page(501.0))
    account = world.account()
    assert cpu_s(account, A) == pytest.approx(1.0)
    assert account.watched.seconds == 10


def test_a_process_that_does_not_answer_is_charged_when_it_does(world: World) -> None:
    with world.collector() as collector:
        world.later(collector, 0, executor=page(10.0), ingress=page(1.0))
        found = world.later(
            collector, 10, {A: Work(1, 1, {EXECUTOR: 1e6, "ingress": 1.0})}, executor=None, ingress=page(2.0)
        )
        world.later(collector, 10, {A: work(1.0)}, executor=page(13.0), ingress=page(2.0))
    assert found is not None
    assert (found.answered, found.asked) == (1, 2)
    account = world.account()
    assert cpu_s(account, A, EXECUTOR) == pytest.approx(3.0)
    assert cpu_s(account, A, "ingress") == pytest.approx(1.0)


def test_refused_requests_are_paid_by_who_sent_them(world: World) -> None:
    refused = (
        'headrace_ingress_requests_total{code="RESOURCE_EXHAUSTED",fault="caller",pipeline="p",tenant="b"}'
    )
    answered = 'headrace_ingress_requests_total{code="OK",fault="none",pipeline="p",tenant="a"}'
    with world.collector() as collector:
        world.later(collector, 0, ingress=page(1.0, **{refused: 5.0, answered: 7.0}))
        world.later(collector, 10, ingress=page(2.0, **{refused: 105.0, answered: 900.0}))
    account = world.account()
    key = Key("b", "p", "", REFUSED)
    assert cpu_s(account, key) == pytest.approx(1.0)
    assert counts_of(account) == {key: (0, 100)}


def test_prices_that_change_hold_from_then_on(world: World) -> None:
    prices = world.prices
    prices.write_text("prices: {core_hour: 3600, memory_gb_hour: 0}\nreserved: {cores: 1}\n")
    with world.collector() as collector:
        world.later(collector, 0, executor=page(0.0))
        world.later(collector, 10, {A: work(1.0)}, executor=page(1.0))
        prices.write_text("prices: {core_hour: 7200, memory_gb_hour: 0}\nreserved: {cores: 1}\n")
        world.later(collector, 10, {A: work(1.0)}, executor=page(2.0))
    account = world.account()
    assert report(account, "tenant").bill == pytest.approx(10 + 20)
    assert sum(line.amount for line in account.charges if line.key == key_of(A)) == pytest.approx(1 + 2)
    assert sum(line.amount for line in account.charges if line.key.traffic == IDLE) == pytest.approx(9 + 18)


def test_without_targets_nothing_is_written(world: World) -> None:
    with world.collector() as collector:
        with pytest.raises(TargetsError, match=r"targets\.json can't be read: no such file"):
            collector.collect({})
        (world.folder / "targets.json").write_text("[{}]")
        with pytest.raises(TargetsError, match="names no processes"):
            collector.collect({})
    assert world.facts.query(lambda connection: ledger.accounts(connection, 0.0)) == []


def test_processes_are_all_addresses_of_a_name() -> None:
    known = {"router.ns.svc": ["10.0.0.8", "10.0.0.7", "10.0.0.7"], "door.ns.svc": ["fd00::1"]}

    def look_up(host: str, port: int, type: int) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in known[host]]

    services = {"router": "router.ns.svc:7190", "ingress": "door.ns.svc:7190", "features": "gone.ns.svc:7190"}
    assert [(t.instance, t.service, t.address) for t in resolved(services, look_up)] == [
        ("router.10.0.0.7", "router", "10.0.0.7:7190"),
        ("router.10.0.0.8", "router", "10.0.0.8:7190"),
        ("ingress.fd00::1", "ingress", "[fd00::1]:7190"),
        ("features", "features", "gone.ns.svc:7190"),  # it does not answer
    ]
    known.clear()
    with pytest.raises(TargetsError, match=r"gone\.ns\.svc has no address: Name or service not known"):
        resolved(services, look_up)


def test_cost_is_told_by_names(world: World) -> None:
    settings = {"services": {"ingress": "localhost:1"}}
    world.pages = {"ingress.127.0.0.1": page(1.0)}
    with world.collector() as collector:
        collector._settings = CostSettings.model_validate(settings)
        # Nobody listens there, so its process is one that does not answer.
        assert collector.collect({}) is None
        world.now += 10
        found = collector.collect({A: work(1.0)})
    assert found is not None
    assert (found.answered, found.asked) == (0, found.asked)
    assert found.asked > 0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"services": {"router": "router.ns.svc"}}, "no NAME:PORT"),
        ({"services": {"router": "router.ns.svc:99999"}}, "no NAME:PORT"),
        ({"services": {"router": "r:1"}, "targets": "x.json"}, "not by both"),
    ],
)
def test_names_that_cannot_be_asked_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CostSettings.model_validate(given)


async def test_what_can_t_be_written_is_written_later(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pages = {EXECUTOR: page(1.0)}
    world.name_targets()
    with world.keeper() as (keeper, observer):
        observer.put_back({B: work(1.0, rows=3)})  # before the first reading
        await keeper.collect()
        monkeypatch.setattr(world.facts, "_address", str(tmp_path / "targets.json" / "facts"))
        working, world.facts._database = world.facts._database, None
        observer.put_back({A: work(1.0, rows=5)})
        world.now += 10
        await keeper.collect()
        assert world.metric("headrace_cost_failing") == 0
        await keeper.collect()
        await keeper.collect()
        assert world.metric("headrace_cost_failing") == 1
        assert world.log.events == ["the ledger of cost is not written"]
        with pytest.raises(StorageError):
            await ledger.read_accounts(world.facts, 3600.0)
        world.facts._database = working
        world.pages = {EXECUTOR: page(3.0)}
        await keeper.close()
    assert world.metric("headrace_cost_failing") == 0
    assert world.log.events[-1] == "the ledger of cost is written again"
    assert counts_of(world.account()) == {A: (5, 5), B: (3, 3)}
    assert world.metric("headrace_cost_total", pipeline="p", kind="live") > 0


async def test_a_mistake_in_the_prices_is_said_once_and_shown(world: World) -> None:
    prices = world.prices
    prices.write_text("budget: {per_1000: 0.5, pipelines: {q: 2}}\n")
    world.pages = {EXECUTOR: page(1.0)}
    world.name_targets()
    with world.keeper() as (keeper, observer):
        await keeper.collect()
        prices.write_text("budget:\n  per_100: 1\n")
        observer.put_back({A: work(1.0)})
        world.now += 10
        await keeper.collect()
        await keeper.collect()
        assert world.metric("headrace_cost_prices_broken") == 1
        [told_once] = [fields["error"] for _, fields in world.log.lines]
        assert f"{prices}, line 2" in told_once
        assert "per_100" in told_once
        assert (keeper.budget("p"), keeper.budget("q")) == (0.5, 2.0)
        assert world.metric("headrace_cost_budget_per_1000", pipeline="p") == 0.5
        prices.write_text("budget: {per_1000: 1}\n")
        await keeper.close()
    assert world.metric("headrace_cost_prices_broken") == 0
    assert world.metric("headrace_cost_budget_per_1000", pipeline="p") == 1
