"""A real token: SoftHSM. Needs Debian's softhsm2 and python-pkcs11, which is outside the lock; skipped by name without them."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from headrace.encryption import DataKeys, KeysAwayError, KeysProblem, LockedError, Sealer
from headrace.encryption.settings import EncryptionSettings, Pkcs11Settings, kms_of

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
# Slow: CI's environment has the lock's packages alone.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("pkcs11") is None, reason="python-pkcs11 is not installed (pyproject.toml: pkcs11)"
    ),
    pytest.mark.skipif(
        not MODULE.exists() or shutil.which("softhsm2-util") is None,
        reason="softhsm2 is not installed (apt-get install softhsm2)",
    ),
]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pkcs11Settings]:
    folder = tmp_path_factory.mktemp("token")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        made = shlex.split("softhsm2-util --init-token --free --label here --so-pin 4321 --pin 1234")
        subprocess.run(made, check=True, capture_output=True)
        (folder / "pin").write_text("1234\n")
        (folder / "pin").chmod(0o600)
        settings = Pkcs11Settings(module=MODULE, token="here", pin_file=folder / "pin")
        kms = kms_of(EncryptionSettings(pkcs11=settings))
        with pytest.raises(KeysAwayError, match="rotate to make it"):
            kms.current()
        assert kms.rotate() == "headrace/1"
        yield settings


def test_the_token_wraps_rotates_and_rewraps(token: Pkcs11Settings) -> None:
    kms = kms_of(EncryptionSettings(pkcs11=token))
    sealer = Sealer(DataKeys(kms, 300, 1000, lambda: 0.0))
    sealed = sealer.seal(b"what was asked", "a")
    assert kms.rotate() == "headrace/2"
    fresh = Sealer(DataKeys(kms, 300, 1000, lambda: 0.0))
    assert fresh.open(sealed, "a") == b"what was asked"
    again = fresh.rewrapped(sealed)
    assert again is not None
    assert fresh.open(again, "a") == b"what was asked"
    assert fresh.rewrapped(again) is None


def test_a_version_that_is_not_there_locks(token: Pkcs11Settings) -> None:
    kms = kms_of(EncryptionSettings(pkcs11=token))
    wrapped = kms.wrap(bytes(32))
    with pytest.raises(LockedError, match="headrace/9"):
        kms.unwrap(type(wrapped)("headrace/9", wrapped.content))
    with pytest.raises(LockedError, match="does not open it"):
        kms.unwrap(type(wrapped)(wrapped.version, wrapped.content[:-1] + b"\0\0"))


def test_a_pin_that_others_read_and_a_missing_token_are_away(token: Pkcs11Settings, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("1234")
    (tmp_path / "pin").chmod(0o644)
    with pytest.raises(KeysAwayError, match="chmod 600"):
        kms_of(EncryptionSettings(pkcs11=token.model_copy(update={"pin_file": tmp_path / "pin"}))).current()
    with pytest.raises(KeysAwayError, match="token gone"):
        kms_of(EncryptionSettings(pkcs11=token.model_copy(update={"token": "gone"}))).current()


def test_a_version_that_is_retired_opens_nothing_any_more(token: Pkcs11Settings) -> None:
    kms = kms_of(EncryptionSettings(pkcs11=token.model_copy(update={"key": "brief"})))
    assert kms.rotate() == "brief/1"
    wrapped = kms.wrap(bytes(32))
    with pytest.raises(ValueError, match="is the current one"):
        kms.retire("brief/1")
    assert kms.rotate() == "brief/2"
    kms.retire("brief/1")
    assert kms.versions() == ["brief/2"]
    with pytest.raises(LockedError, match="brief/1"):
        kms.unwrap(wrapped)


def test_a_token_that_was_taken_away_is_used_again_when_it_is_back(token: Pkcs11Settings) -> None:
    """Also by another part of the process, whose session ends as the library begins anew."""
    kms, other = (kms_of(EncryptionSettings(pkcs11=token)) for _ in range(2))
    wrapped, secret = kms.wrap(bytes(32)), bytes(32)
    assert other.unwrap(wrapped) == secret
    tokens = Path(token.pin_file).parent / "tokens"
    hidden = tokens.rename(tokens.with_name("hidden"))
    tokens.mkdir()
    try:
        for part in (kms, other):
            # Away, not locked: the key may come back.
            with pytest.raises(KeysAwayError) as caught:
                part.unwrap(wrapped)
            assert caught.value.problem is KeysProblem.MISSING
            with pytest.raises(KeysAwayError):
                part.versions()
    finally:
        tokens.rmdir()
        hidden.rename(tokens)
    for part in (kms, other, kms):
        assert part.unwrap(wrapped) == secret
        assert part.wrap(secret).version == wrapped.version


# In a process of its own: a login is the whole process's, so one that has logged in is asked for no PIN.
_WRONG_PIN = """
import sys
from pathlib import Path
from headrace.encryption import KeysAwayError
from headrace.encryption.kms.pkcs11_kms import Pkcs11Kms
from headrace.encryption.settings import Pkcs11Settings
module, token, pin_file = sys.argv[1:]
kms = Pkcs11Kms(Pkcs11Settings(module=Path(module), token=token, pin_file=Path(pin_file)))
for _ in range(2):
    try:
        kms.current()
    except KeysAwayError as error:
        print(error.problem, "not tried again" in str(error))
Path(pin_file).write_text("1234")
print(kms.current().rpartition("/")[0])
"""


def test_a_refused_pin_is_not_tried_again_before_its_file_changes(
    token: Pkcs11Settings, tmp_path: Path
) -> None:
    (tmp_path / "pin").write_text("wrong")
    (tmp_path / "pin").chmod(0o600)
    command = [sys.executable, "-c", _WRONG_PIN, str(token.module), token.token, str(tmp_path / "pin")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["pin_refused False", "pin_refused True", "headrace"]
