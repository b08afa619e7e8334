"""The lease at control."""

from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog.remote import RemoteRecords
from services.monitoring.rollouts.handover import ControlLease
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
