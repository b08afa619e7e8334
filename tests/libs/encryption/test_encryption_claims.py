"""Files that several processes take: who begins one has it, also if another takes it between its creation and its lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.encryption.files import claimed, new_claimed


@pytest.mark.parametrize(
    "take", [Path.unlink, lambda path: path.rename(path.with_name("aside"))], ids=["removed", "moved"]
)
def test_what_another_took_before_it_was_locked_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take: Callable[[Path], object]
) -> None:
    lock, names = fcntl.flock, [tmp_path / "two", tmp_path / "one"]

    def slowly(descriptor: int, operation: int) -> None:
        """Another process finds the file first, as one that a killed process left empty."""
        if operation == fcntl.LOCK_EX and (tmp_path / "one").exists():
            with claimed(tmp_path / "one") as ours:
                assert ours
                take(tmp_path / "one")
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", slowly)
    descriptor, path = new_claimed(names.pop)
    os.write(descriptor, b"what was answered")
    assert path == tmp_path / "two"
    assert path.read_bytes() == b"what was answered"
    with claimed(path) as ours:
        assert not ours
    os.close(descriptor)
    with claimed(path) as ours:
        assert ours


def test_a_name_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    with pytest.raises(FileExistsError):
        new_claimed(lambda: tmp_path / "one")
