"""A claim is of the file that has the name now, whatever others did between its opening and its locking."""

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.state.files import claims
from headrace.state.files.claims import claimed, new_claimed

Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """What another process does just before the first lock is given."""

    def between(act: Callable[[], object]) -> None:
        waiting: Iterator[Callable[[], object]] = iter([act])

        def flock(descriptor: int, how: int) -> None:
            next(waiting, lambda: None)()
            fcntl.flock(descriptor, how)

        monkeypatch.setattr(claims, "fcntl", type("Fcntl", (), {**vars(fcntl), "flock": staticmethod(flock)}))

    return between


def is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_file_is_one_owner_s_until_the_claim_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    with claimed(path) as ours, claimed(path) as other:
        assert (ours, other, is_free(path)) == (True, False, False)
    assert is_free(path)
    with claimed(tmp_path / "nowhere", wait=True) as ours:
        assert not ours


@pytest.mark.parametrize("wait", [False, True])
def test_a_file_that_is_removed_or_replaced_meanwhile(
    wait: bool, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    path, newer = tmp_path / "a", tmp_path / "b"
    path.touch()
    newer.write_bytes(b"newer")
    meanwhile(lambda: newer.replace(path))
    with claimed(path, wait=wait) as ours:
        assert (ours, is_free(path)) == (True, False)
    meanwhile(path.unlink)
    with claimed(path, wait=wait) as ours:
        assert not ours


def test_a_new_file_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, meanwhile: Meanwhile
) -> None:
    names = iter("abc")
    meanwhile(lambda: (tmp_path / "a").unlink())
    descriptor, path = new_claimed(lambda: tmp_path / next(names))
    assert (path.name, os.path.samestat(os.fstat(descriptor), path.stat())) == ("b", True)
    assert (path.stat().st_mode & 0o777, is_free(path)) == (0o600, False)
    os.close(descriptor)
    with pytest.raises(FileExistsError):
        new_claimed(lambda: path)
