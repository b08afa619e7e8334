"""The lease at control, and saved evidence."""

import math
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.catalog.remote import RemoteRecords
from services.monitoring.database.facts import Facts
from services.monitoring.rollouts.handover import EVIDENCE, ControlLease, DatabaseEvidence
from tests.control_service import execute
from tests.released import database, releases_in
from tests.services.monitoring.rollout_analyser import LONG_S


def test_a_lease_that_ended_is_not_taken_again_at_once_and_has_another_token_then(tmp_path: Path) -> None:
    with releases_in(tmp_path) as store:
        lease, other = (ControlLease(store.records, name, LONG_S) for name in ("one", "other"))
        assert (lease.token, lease.hold(), lease.hold(), other.hold()) == ("", True, True, False)
        other.release()
        assert not other.hold()
        first = lease.token
        # As if it had run out.
        execute(str(database(tmp_path)), "UPDATE leases SET until = 0")
        assert (lease.hold(), lease.token) == (False, "")
        assert lease.hold()
        assert lease.token not in ("", first)
        lease.release()
        assert other.hold()


def test_a_control_that_is_away_is_an_error(tmp_path: Path) -> None:
    with (
        closing(RemoteRecords(f"unix:{tmp_path}/nowhere.sock")) as records,
        pytest.raises(OSError, match="control"),
    ):
        ControlLease(records, "one").hold()


def test_evidence_is_of_its_last_reader(facts: Facts) -> None:
    store = DatabaseEvidence(facts)
    assert store.load("p", "one") is None
    assert store.save("p", {"format": 1}, "one")
    assert store.load("p", "two") == {"format": 1}
    assert not store.save("p", {"format": 2}, "one")
    assert (store.save("p", {"format": 3}, "two"), store.load("p", "two")) == (True, {"format": 3})
    assert (store.load("q", "two"), store.save("r", {}, "two")) == (None, False)
    with pytest.raises(ValueError, match="JSON"):
        store.save("p", {"e": math.inf}, "two")
    facts.write(lambda connection: connection.execute(sa.update(EVIDENCE).values(content="[1]")))
    assert store.load("p", "two") is None
