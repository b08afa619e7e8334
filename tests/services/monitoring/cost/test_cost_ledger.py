"""The ledger of cost on both databases: hours add up, and what is read is of one moment."""

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.api.monitoring.v1 import cost_pb2 as pb
from headrace.cost import Interval, Prices, billed, charges, report
from headrace.cost.prices import CPU
from services.monitoring.cost import ledger
from services.monitoring.database.facts import Facts
from tests.libs.cost.test_cost_split import intervals, prices
from tests.services.monitoring.monitoring_outcomes import emptied


def add(facts: Facts, interval: Interval, in_force: Prices, now: float) -> None:
    made, bills = charges(interval, in_force), billed(interval, in_force)
    facts.write(lambda c: ledger.add(c, now, interval.seconds, in_force.currency, made, bills, interval.work))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(intervals, min_size=1, max_size=4), prices)
def test_the_sums_of_intervals_equal_their_bill(
    facts: Facts, found: list[Interval], in_force: Prices
) -> None:
    emptied(facts)
    for number, interval in enumerate(found):
        add(facts, interval, in_force, 1800.0 * number)
    [whole] = facts.query(lambda connection: ledger.accounts(connection, 0.0))
    reserved = sum(in_force.reserves(CPU) * i.seconds for i in found) * in_force.prices.of(CPU)
    told = report(whole, "tenant")
    assert told.bills[CPU].amount == pytest.approx(reserved)
    size = sum(abs(line.amount) for line in whole.charges)
    assert told.charged == pytest.approx(told.bill, rel=0.001, abs=1e-9 * size + 1e-12)
    assert sum(count.row_count for count in whole.counts) == sum(
        w.rows for i in found for w in i.work.values()
    )
    assert (whole.since.seconds, whole.until.seconds) == (0, 3600 * ((len(found) + 1) // 2))


def test_what_is_written_while_it_is_read_is_not_seen_in_part(facts: Facts) -> None:
    interval = Interval(15.0, [], {})
    add(facts, interval, Prices(), 1800.0)

    def read(connection: sa.Connection) -> tuple[list[pb.CostAccount], list[pb.CostAccount]]:
        before = ledger.accounts(connection, 0.0)
        add(facts, interval, Prices(), 1800.0)
        return before, ledger.accounts(connection, 0.0)

    before, after = facts.query(read)
    assert before == after
    assert facts.query(lambda connection: ledger.accounts(connection, 0.0))[0].watched.seconds == 30


def test_old_hours_and_readings_go(facts: Facts) -> None:
    add(facts, Interval(15.0, [], {}), Prices(), 1800.0)
    facts.write(lambda c: ledger.keep_readings(c, {"old": 1.0, "kept": 1.0}, {"router": 0.5}, 0.0))
    facts.write(lambda c: ledger.keep_readings(c, {"kept": 2.0}, {"router": 0.25}, 86_401.0))
    assert facts.query(ledger.last_readings) == {"kept": 2.0}
    [account] = facts.query(lambda connection: ledger.accounts(connection, 0.0))
    assert dict(account.memory_gb) == {"router": 0.25}
    facts.write(lambda connection: ledger.remove_before(connection, 3600.0))
    assert facts.query(lambda connection: ledger.accounts(connection, 0.0)) == []
