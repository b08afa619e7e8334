"""A file that can't be replaced is as it was, and the error names it."""

from pathlib import Path

import pytest

from headrace.state import atomic
from tests.disks import fill, tiny_disk


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        path = tmp_path / "tenants.yaml"
        atomic.write(path, b"old")
        filler = fill(tmp_path, "filler")
        with pytest.raises(OSError, match="No space left") as caught:
            atomic.write(path, b"new" * 10_000)
        assert caught.value.filename == str(path)
        assert path.read_bytes() == b"old"
        assert sorted(tmp_path.iterdir()) == [filler, path]
        filler.unlink()
        atomic.write(path, b"new")
        assert path.read_bytes() == b"new"
