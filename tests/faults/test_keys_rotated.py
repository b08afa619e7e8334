"""Keys are rotated, files are rewrapped and old versions are retired while a sealed system serves: nothing is lost or refused."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.agreed import with_yes
from tests.faults.sealed_traffic import REGULATED, USUAL, SealedTraffic
from tests.sealed_home import PLACE, new_keys, sealed_home, status, written_plain
from tests.system import HEADRACE, HOME, ROOT, System, headrace, override, poll

# A data key lasts for half a second, so that each rotation is met by all files within a second.
RENEW_S, MAX_AGE_S = 0.5, 2.0
ROUNDS = 3


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[System]:
    """Apart, also with recordings."""
    with sealed_home(new_keys(tmp_path, renew_s=RENEW_S, max_age_s=MAX_AGE_S)):
        system = System.up("apart")
        documents = {"pipelines": str(HOME / "pipelines")}
        override("router", {**documents, "recording": {"folder": str(tmp_path / "recordings")}})
        headrace("restart", "router")
        yield system
        headrace("down")


def typed(*arguments: str) -> tuple[int, str]:
    """Exit code of a command that may have to be typed again, and what it said."""
    command = [str(HEADRACE), *with_yes("encryption", *arguments), "--home", str(HOME)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode in (0, 1), (command, done.stdout, done.stderr)
    return done.returncode, done.stdout + done.stderr


def retired_all_but(current: str) -> bool:
    """Rewraps and retires as an operator does, until only the current version is left."""
    code, said = typed("rewrap")
    assert code == 0 or "are being written now" in said, said
    for version in status()["versions"]:
        if version != current:
            code, said = typed("retire", version, "--yes")
            assert code == 0 or "files need key" in said or "that run may seal" in said, said
    return list(status()["versions"]) == [current]


def complete(traffic: SealedTraffic, kind: str) -> bool:
    """Whether the events of all that was answered are stored."""
    return not traffic.lost(kind)


def verified() -> bool:
    """Whether the audit holds, and nothing in it is locked."""
    told = json.loads(headrace("audit", "verify", "--json"))
    return bool(told["holds"]) and not told["locked"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rotated_rewrapped_and_retired_under_load_nothing_is_lost(sealed: System) -> None:
    with SealedTraffic(sealed) as traffic:
        for _ in range(ROUNDS):
            traffic.more(20)
            headrace("encryption", "rotate")
            code, said = typed("rewrap")
            assert code == 0 or "are being written now" in said, said
            told = status()
            assert [s["damaged"] + s["locked"] + s["plain"] for s in told["stores"].values()] == [0] * 5
            assert verified()
        current = told["current"]
        poll("the old versions are retired under load", lambda: retired_all_but(current), 240)
        traffic.more(20)
    assert traffic.failed == {}
    assert written_plain() == []
    for kind in (REGULATED, USUAL):
        poll(f"all events of {kind} are stored", partial(complete, traffic, kind))
    # By new processes, which have opened nothing yet.
    headrace("down")
    System.up("apart")
    for kind in (REGULATED, USUAL):
        assert traffic.lost(kind) == set()
        assert set(traffic.stored(kind).values()) == {1}
    assert verified()
    assert headrace("security")
    assert not list(PLACE.journal.glob("*.unreadable"))
    assert not list((PLACE.events / "unreadable").glob("*"))
