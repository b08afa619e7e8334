"""A system whose keys are on a real token (SoftHSM): the token goes and comes back, and refuses a PIN."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from headrace.encryption import EncryptionSettings, KeysProblem
from headrace.encryption.settings import Pkcs11Settings
from tests.faults.sealed_traffic import REGULATED, USUAL, SealedTraffic
from tests.faults.test_lost_keys import REFUSED, SEALING, away, told
from tests.sealed_home import sealed_home, status, written_plain
from tests.system import System, headrace, poll

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"
RENEW_S, MAX_AGE_S = 0.5, 5.0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        find_spec("pkcs11") is None, reason="python-pkcs11 is not installed (pyproject.toml: pkcs11)"
    ),
    pytest.mark.skipif(
        not MODULE.exists() or shutil.which("softhsm2-util") is None,
        reason="softhsm2 is not installed (apt-get install softhsm2)",
    ),
]


class Token:
    """A token in files. Taken away, its folder is there and empty."""

    def __init__(self, folder: Path) -> None:
        self.tokens, self.pin = folder / "tokens", folder / "pin"
        self.configuration = folder / "softhsm2.conf"
        self.tokens.mkdir()
        self.configuration.write_text(f"directories.tokendir = {self.tokens}\n")
        self.pin.touch(mode=0o600)
        self.pin.write_text(PIN)
        self.settings = Pkcs11Settings(module=MODULE, token="home", pin_file=self.pin)

    def make(self) -> None:
        """Initialises it."""
        command = ["softhsm2-util", "--init-token", "--free", "--label", "home"]
        pins = ["--so-pin", "4321", "--pin", PIN]
        subprocess.run([*command, *pins], check=True, capture_output=True)

    def take_away(self) -> None:
        self.tokens.rename(self.tokens.with_name("hidden"))
        self.tokens.mkdir()

    def put_back(self) -> None:
        self.tokens.rmdir()
        self.tokens.with_name("hidden").rename(self.tokens)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    made = Token(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(made.configuration))
        made.make()
        yield made


@pytest.fixture(scope="module")
def sealed(token: Token) -> Iterator[System]:
    settings = EncryptionSettings(pkcs11=token.settings, renew_s=RENEW_S, max_age_s=MAX_AGE_S)
    with sealed_home(settings):
        headrace("encryption", "rotate")  # makes the first version of the key
        yield System.up("apart")


def test_it_serves_and_seals_with_another_version(sealed: System) -> None:
    with SealedTraffic(sealed) as traffic:
        traffic.more(20)
        headrace("encryption", "rotate")
        traffic.more(20)
        found = status()
        assert [version.rpartition("/")[2] for version in found["versions"]] == ["1", "2"]
    assert traffic.failed == {}
    poll("all regulated events are stored", lambda: not traffic.lost(REGULATED))
    assert written_plain() == []


def test_a_token_that_is_taken_away_is_used_again_when_it_is_back(sealed: System, token: Token) -> None:
    """By processes that had it, and by one that began without it."""
    with SealedTraffic(sealed) as traffic:
        traffic.more(10)
        token.take_away()
        try:
            poll("regulated ones are refused", lambda: traffic.failed[REGULATED, REFUSED] > 0)
            poll("their metrics say why", lambda: away(sealed, KeysProblem.MISSING) == {*SEALING})
            poll("status says why", lambda: told(sealed) == KeysProblem.MISSING)
            traffic.more(50, USUAL)
            headrace("restart", "router")
            assert traffic.refusal(REGULATED) == REFUSED
            assert not traffic.refusal(USUAL)
            assert written_plain() == []
        finally:
            token.put_back()
        poll("regulated ones are answered again", lambda: not traffic.refusal(REGULATED))
        traffic.more(50)
        poll("nothing is wrong with the keys", lambda: told(sealed) is None)
    assert set(traffic.failed) <= {(REGULATED, REFUSED)}
    poll("all regulated events are stored", lambda: not traffic.lost(REGULATED))
    poll("nothing is locked", lambda: not any(s["locked"] for s in status()["stores"].values()))
    audit = json.loads(headrace("audit", "verify", "--json"))
    assert audit["holds"]
    assert not audit["locked"]


def test_a_wrong_pin_matters_to_who_logs_in_and_is_not_tried_again(sealed: System, token: Token) -> None:
    with SealedTraffic(sealed) as traffic:
        token.pin.write_text("wrong")
        # Who is logged in stays so, longer than a data key may be old.
        began = time.monotonic()
        poll("it is longer", lambda: time.monotonic() - began > MAX_AGE_S + RENEW_S)
        traffic.more(10)
        assert traffic.failed == {}
        pid = sealed.pid("router")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        try:
            poll("there is a new one", lambda: sealed.pid("router") not in (None, pid))
            poll("what is not regulated is answered", lambda: not traffic.refusal(USUAL))
            assert traffic.refusal(REGULATED) == REFUSED
            poll("status says why", lambda: told(sealed) == KeysProblem.PIN_REFUSED)
            assert written_plain() == []
        finally:
            token.pin.write_text(PIN)
        poll("regulated ones are answered again", lambda: not traffic.refusal(REGULATED))
        traffic.more(20)
        poll("nothing is wrong with the keys", lambda: told(sealed) is None)
    poll("all regulated events are stored", lambda: not traffic.lost(REGULATED))
