"""Leases at control, by the real database and through the real service; saved evidence."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from headrace.catalog.access import Records
from headrace.catalog.remote import RemoteRecords
from services.monitoring.rollouts.handover import ControlLease, FileEvidence
from tests.control_service import execute
from tests.released import database, released, releases_in
from tests.services.monitoring.rollout_analyser import LONG_S
from tests.system import poll


@pytest.fixture(params=["database", "control"])
def ways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Records]]:
    """Each call is a process's way to the records."""
    if request.param == "database":
        with releases_in(tmp_path) as store:
            yield lambda: store.records
        return
    with released(tmp_path) as releases:
        opened: list[RemoteRecords] = []

        def way() -> Records:
            opened.append(RemoteRecords(releases.control.target))
            return opened[-1]

        yield way
        for records in opened:
            records.close()


def end_lease(tmp_path: Path) -> None:
    """As if it had run out."""
    execute(str(database(tmp_path)), "UPDATE leases SET until = 0")


def test_a_lease_is_held_once_and_can_be_given_back(ways: Callable[[], Records]) -> None:
    one, other = (ControlLease(ways(), name, LONG_S) for name in ("one", "other"))
    assert (one.hold(), one.hold(), other.hold()) == (True, True, False)
    other.release()
    assert not other.hold()
    one.release()
    assert other.hold()
    assert not one.hold()


def test_a_lease_runs_out_when_its_holder_is_silent(ways: Callable[[], Records]) -> None:
    one, other = ControlLease(ways(), "one", 0.2), ControlLease(ways(), "other", LONG_S)
    assert one.hold()
    poll("the other one has it", other.hold)
    assert not one.hold()
    # What the first one gives back is not its own.
    one.release()
    assert other.hold()


def test_a_lease_that_ended_is_not_taken_again_at_once_and_has_another_token_then(
    ways: Callable[[], Records], tmp_path: Path
) -> None:
    lease = ControlLease(ways(), "one", LONG_S)
    assert lease.token == ""
    assert lease.hold()
    first = lease.token
    end_lease(tmp_path)
    assert (lease.hold(), lease.token) == (False, "")
    assert lease.hold()
    assert lease.token not in ("", first)


def test_a_control_that_is_away_is_an_error(tmp_path: Path) -> None:
    with (
        closing(RemoteRecords(f"unix:{tmp_path}/nowhere.sock")) as records,
        pytest.raises(OSError, match="control"),
    ):
        ControlLease(records, "one").hold()


def test_evidence_in_files(tmp_path: Path) -> None:
    store = FileEvidence(tmp_path / "evidence")
    assert store.load("p") is None
    store.save("p", {"format": 1})
    assert store.load("p") == {"format": 1}
    assert store.load("q") is None
    with pytest.raises(ValueError, match="JSON"):
        store.save("p", {"e": math.inf})
    (tmp_path / "evidence" / "p.json").write_text("[1]")
    assert store.load("p") is None
