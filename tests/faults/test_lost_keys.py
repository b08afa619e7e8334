"""The keys of a sealed system are lost while it serves: nothing is written in clear, it heals by itself when they are back."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.encryption import KeysProblem
from headrace.encryption.kms.file_kms import make
from tests.faults.sealed_traffic import REGULATED, USUAL, SealedTraffic
from tests.gauges import samples
from tests.sealed_home import PLACE, new_keys, sealed_home, written_plain
from tests.system import HEADRACE, HOME, System, headrace, poll, refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEALING = ["router", "monitoring", "ingress"]
RENEW_S, MAX_AGE_S = 0.5, 5.0
REFUSED = "JOURNAL_UNAVAILABLE"
SAID = "the keys that files are sealed with can't be used"


@dataclass(frozen=True)
class Sealed:
    """A running system, its file of keys, and where a test hides it."""

    system: System
    keys: Path

    @property
    def hidden(self) -> Path:
        return self.keys.with_name("hidden")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    settings = new_keys(tmp_path_factory.mktemp("keys"), renew_s=RENEW_S, max_age_s=MAX_AGE_S)
    assert settings.file is not None
    with sealed_home(settings):
        yield Sealed(System.up("apart"), settings.file)


def gone(keys: Path) -> None:
    """The file was moved away, and there is none."""


def truncated(keys: Path) -> None:
    """A copy stopped half way."""
    content = keys.with_name("hidden").read_bytes()
    keys.write_bytes(content[: len(content) // 2])
    keys.chmod(0o600)


def of_another_home(keys: Path) -> None:
    """Somebody put the keys of another installation there."""
    make(keys, "headrace-of-another")


def open_to_others(keys: Path) -> None:
    """Somebody copied it with the rights of any file."""
    keys.write_bytes(keys.with_name("hidden").read_bytes())
    keys.chmod(0o644)


LOST: dict[Callable[[Path], None], KeysProblem] = {
    gone: KeysProblem.MISSING,
    truncated: KeysProblem.DAMAGED,
    of_another_home: KeysProblem.OTHER_KEYS,
    open_to_others: KeysProblem.OPEN_TO_OTHERS,
}


def told(system: System) -> str | None:
    """What `headrace status --json` says of the keys."""
    found = json.loads(headrace("status", "--json"))["keys_problem"]
    return None if found is None else str(found["problem"])


def away(system: System, problem: KeysProblem) -> set[str]:
    """Processes whose metrics say that they can't use the keys, for this reason."""
    if not all(value > 0 for _, value in samples(system, "headrace_encryption_keys_away_seconds", SEALING)):
        return set()
    return {
        service
        for service in SEALING
        for labels, value in samples(system, "headrace_encryption_keys_problem", [service])
        if labels["problem"] == problem and value == 1
    }


def lost(at: Sealed, how: Callable[[Path], None]) -> None:
    at.keys.rename(at.hidden)
    how(at.keys)


def put_back(at: Sealed) -> None:
    at.hidden.replace(at.keys)


@pytest.mark.parametrize("how", LOST, ids=lambda how: how.__name__)
def test_what_is_not_regulated_goes_on_without_keys_and_all_is_well_when_they_are_back(
    sealed: Sealed, how: Callable[[Path], None]
) -> None:
    system, problem = sealed.system, LOST[how]
    with SealedTraffic(system) as traffic:
        traffic.more(10)
        lost(sealed, how)
        began = time.monotonic()
        try:
            poll("regulated ones are refused", lambda: traffic.failed[REGULATED, REFUSED] > 0)
            # The data key in memory serves until it is too old.
            assert time.monotonic() - began > MAX_AGE_S - RENEW_S - 0.5
            traffic.more(50, USUAL)
            poll("their metrics say why", lambda: away(system, problem) == {*SEALING})
            poll("status says why", lambda: told(system) == problem)
            assert SAID in PLACE.log("router").read_text()
            headrace("restart", "router")
            assert traffic.refusal(REGULATED) == REFUSED
            traffic.more(50, USUAL)
            assert written_plain(traffic.tenants[REGULATED].encode()) == []
        finally:
            put_back(sealed)
        poll("regulated ones are answered again", lambda: not traffic.refusal(REGULATED))
        traffic.more(50)
        poll("nothing is wrong with the keys", lambda: told(system) is None)
    assert set(traffic.failed) <= {(REGULATED, REFUSED)}
    poll("all regulated events are stored", lambda: not traffic.lost(REGULATED))
    assert set(traffic.stored(REGULATED).values()) == {1}
    assert written_plain() == []
    audit = json.loads(headrace("audit", "verify", "--json"))
    assert audit["holds"]
    assert not audit["locked"]


def test_all_that_is_killed_without_keys_comes_back_and_heals(sealed: Sealed) -> None:
    """Each service starts without keys; nothing has to be restarted when they are back."""
    system = sealed.system
    with SealedTraffic(system) as traffic:
        traffic.more(10)
        lost(sealed, gone)
        try:
            pids = {service: system.pid(service) for service in SEALING}
            for pid in pids.values():
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            poll(
                "all are ready again", lambda: all(s["state"] == "ready" for s in system.services().values())
            )
            poll("what is not regulated is answered", lambda: not traffic.refusal(USUAL))
            assert traffic.refusal(REGULATED) == REFUSED
            assert {s: system.pid(s) for s in SEALING} != pids
            assert written_plain() == []
        finally:
            put_back(sealed)
        poll("regulated ones are answered again", lambda: not traffic.refusal(REGULATED))
        traffic.more(50)
    poll("all regulated events are stored", lambda: not traffic.lost(REGULATED))
    assert written_plain() == []


def test_it_is_not_started_without_keys_and_says_what_to_do(sealed: Sealed) -> None:
    headrace("down")
    lost(sealed, gone)
    try:
        command = [str(HEADRACE), "up", "--home", str(HOME)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1
        said = " ".join(done.stderr.split())
        assert str(sealed.keys) in said
        assert KeysProblem.MISSING.remedy in said
        assert f"up --home {HOME}" in said
        said = " ".join(refused("restart", "router").split())
        assert f"up --home {HOME}" in said
    finally:
        put_back(sealed)
    headrace("up")
