"""Thirty resources that crash, hang or are refused: each stops itself alone, and ends processes of one replica at most."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import TenantSpec, new_key
from headrace.catalog.remote import RemoteRecords
from services.control import wiring
from services.control.resources.followers import Followers
from tests.control_service import Here, control_here
from tests.libs.resources.control_history import PRIVATE, PUBLIC
from tests.libs.resources.test_resources_poison import Supervisor
from tests.live_access import CREATED

REPLICAS = 3
# How often one process ends by it, at most: also by what was new beside it.
ENDS = {"abort": 4, "exit": 8, "refuse": 0, "hang": 0}
ME = By("tests")
SPEC = TenantSpec(pipelines=("*",), scopes=("operate",))


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    # However long a process takes to be back.
    monkeypatch.setattr(wiring, "Followers", partial(Followers, first_s=120.0))
    monkeypatch.setattr(Supervisor, "most", 200)
    with control_here(tmp_path / "control", keys=(PRIVATE, PUBLIC)) as found:
        yield found


@pytest.fixture
def replicas(control: Here, tmp_path: Path) -> Iterator[list[Supervisor]]:
    found = [Supervisor(control.target, tmp_path / "processes", 0.3) for _ in range(REPLICAS)]
    yield found
    for each in found:
        each.kill()


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    """They start processes again, which end with them."""
    with ThreadPoolExecutor(REPLICAS) as pool:
        yield pool


def added(records: RemoteRecords, text: str) -> str:
    """The name of a new key, which says this."""
    key = new_key(created=CREATED)[1].model_copy(update={"scopes": (f"operate:{text}",)})
    changes.add_key(records, "acme", key, lambda spec: spec or SPEC, ME)
    return f"acme/{key.id}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_each_ends_one_replica_and_nothing_else(
    control: Here, replicas: list[Supervisor], threads: ThreadPoolExecutor, rounds: int
) -> None:
    def until(where: str, name: str) -> None:
        """Until each says so of the key."""
        list(threads.map(lambda each: each.until_so(lambda found: name in found[where]), replicas))

    with closing(RemoteRecords(control.target)) as records:
        good = added(records, "good")
        until("keys", good)
        for poison in [*ENDS, *("abort" for _ in range(rounds > 1))] * rounds:
            before = [each.ends for each in replicas]
            bad = added(records, poison)
            until("problems", bad)
            good = added(records, "good")
            until("keys", good)
            ends = [each.ends - count for each, count in zip(replicas, before, strict=True)]
            # What ends a process only while it serves may reach others, if that takes longer than they wait for it.
            touched = sum(map(bool, ends))
            assert poison == "exit" or touched == bool(ENDS[poison]), (poison, ends)
            assert max(ends) <= ENDS[poison], (poison, ends)
