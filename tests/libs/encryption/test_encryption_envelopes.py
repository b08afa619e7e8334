"""Envelopes, data keys and the file of keys: real files, a clock that is set."""

from pathlib import Path

import pytest

from headrace.encryption import DamagedError, KeysAwayError, KeysProblem, LockedError
from headrace.encryption.envelope import read_header
from headrace.encryption.kms.file_kms import FileKms, make
from tests.encryption_keys import Keys


@pytest.fixture
def home(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def version(content: bytes) -> str:
    return read_header(content)[0].wrapped.version


def test_only_the_same_name_opens_it(home: Keys) -> None:
    sealed = home.sealer().seal(b"what was asked", "a")
    assert b"asked" not in sealed
    assert home.sealer().open(sealed, "a") == b"what was asked"
    with pytest.raises(DamagedError):
        home.sealer().open(sealed, "b")


@pytest.mark.parametrize("place", [-1, -20])
def test_one_altered_byte_is_damage(home: Keys, place: int) -> None:
    sealed = bytearray(home.sealer().seal(b"x" * 50, "a"))
    sealed[place] ^= 1
    with pytest.raises(DamagedError):
        home.sealer().open(bytes(sealed), "a")


def test_every_cut_is_told(home: Keys) -> None:
    sealed = home.sealer().seal(b"x", "a")
    for end in range(len(sealed)):
        with pytest.raises((DamagedError, LockedError)):
            home.sealer().open(sealed[:end], "a")


def test_another_homes_key_locks_it(home: Keys, tmp_path: Path) -> None:
    sealed = home.sealer().seal(b"x", "a")
    (tmp_path / "other").mkdir()
    with pytest.raises(LockedError, match="another key has this name"):
        Keys(tmp_path / "other").sealer().open(sealed, "a")


def test_rotation_seals_anew_and_still_opens(home: Keys) -> None:
    sealer = home.sealer()
    old = sealer.seal(b"old", "a")
    assert FileKms(home.file).rotate() == "headrace/2"
    home.now = 301
    new = sealer.seal(b"new", "a")
    assert (version(old), version(new)) == ("headrace/1", "headrace/2")
    assert home.sealer().open(old, "a") == b"old"
    again = home.sealer().rewrapped(old)
    assert again is not None
    assert version(again) == "headrace/2"
    assert home.sealer().open(again, "a") == b"old"
    assert home.sealer().rewrapped(again) is None


def test_keys_away_write_on_until_the_limit(home: Keys) -> None:
    sealer = home.sealer()
    sealed = sealer.seal(b"x", "a")
    hidden = home.file.rename(home.file.with_name("hidden"))
    home.now = 999
    later = sealer.seal(b"y", "a")
    assert sealer.open(later, "a") == b"y"
    home.now = 1000
    with pytest.raises(KeysAwayError, match="older than 1000 s"):
        sealer.seal(b"z", "a")
    with pytest.raises(KeysAwayError):
        home.sealer().open(sealed, "a")
    hidden.rename(home.file)
    home.now = 1006
    assert sealer.open(sealer.seal(b"z", "a"), "a") == b"z"


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "name": "a", "current": 1}']
)
def test_a_file_of_something_else_is_told(home: Keys, content: bytes) -> None:
    home.file.write_bytes(content)
    with pytest.raises(KeysAwayError):
        home.sealer().seal(b"x", "a")


def test_the_keys_of_another_home_are_refused(home: Keys, tmp_path: Path) -> None:
    kms = FileKms(home.file, "headrace")
    home.file.rename(tmp_path / "hidden")
    make(home.file, "others")
    with pytest.raises(KeysAwayError, match="has other keys: others, not headrace") as caught:
        kms.wrap(bytes(32))
    assert caught.value.problem is KeysProblem.OTHER_KEYS
    (tmp_path / "hidden").rename(home.file)
    assert kms.current() == "headrace/1"


def test_each_problem_of_a_file_has_its_kind(home: Keys, tmp_path: Path) -> None:
    kms, content = FileKms(home.file), home.file.read_bytes()
    kms.current()

    def problem() -> KeysProblem:
        with pytest.raises(KeysAwayError) as caught:
            kms.current()
        assert caught.value.problem.remedy
        return caught.value.problem

    home.file.write_bytes(content[: len(content) // 2])
    assert problem() is KeysProblem.DAMAGED
    home.file.write_bytes(content)
    home.file.chmod(0o644)
    assert problem() is KeysProblem.OPEN_TO_OTHERS
    with pytest.raises(KeysAwayError, match="chmod 600"):
        home.sealer().seal(b"x", "a")
    # Also when nothing but the rights has changed since it was read.
    home.file.chmod(0o600)
    kms.current()
    home.file.chmod(0o640)
    assert problem() is KeysProblem.OPEN_TO_OTHERS
    home.file.unlink()
    assert problem() is KeysProblem.MISSING
    home.file.mkdir()
    assert problem() is KeysProblem.UNREADABLE
