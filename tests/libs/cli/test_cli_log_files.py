"""Logs: bounded while their writers go on, and read from the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.cli.installation import log_files
from tests.disks import fill, tiny_disk


def test_a_writer_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    with path.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}".encode() * 100 + b"\n")
            assert log_files.rotate(path, max_bytes=100, kept=2)
        writer.write(b"last\n")
    assert not log_files.rotate(path, max_bytes=100, kept=2)
    assert path.read_bytes() == b"last\n"
    assert path.with_name("router.log.1").read_text() == "4" * 100 + "\n"
    assert path.with_name("router.log.2").read_text() == "3" * 100 + "\n"
    assert not path.with_name("router.log.3").exists()


@given(
    st.lists(st.text("ab", max_size=30), max_size=50), st.integers(1, 60), st.sampled_from([7, 64, 10_000])
)
def test_the_tail_is_the_last_lines(lines: list[str], count: int, block_bytes: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        assert log_files.tail(Path(file.name), count, block_bytes) == lines[-count:]


def test_without_room_for_a_copy_the_oldest_is_given_up_and_nothing_is_half_kept(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        path, large = tmp_path / "router.log", 100_000
        for text in (b"1", b"2", b"3"):
            path.write_bytes(text * large)
            assert log_files.rotate(path, max_bytes=large - 1)
        path.write_bytes(b"4" * large)
        filler = fill(tmp_path, "filler")
        assert log_files.rotate(path, max_bytes=large - 1)
        assert path.stat().st_size == 0
        kept = [path.with_name(f"router.log.{n}").read_bytes()[:1] for n in (1, 2, 3)]
        assert kept == [b"4", b"3", b"2"]
        filler.unlink()
        for old in tmp_path.glob("router.log.*"):
            old.unlink()
        path.write_bytes(b"5" * large)
        fill(tmp_path, "filler")
        # No copy can be made, and none is half there; the log itself is kept as long as it may be so large.
        with pytest.raises(OSError, match="No space left"):
            log_files.rotate(path, max_bytes=large - 1)
        assert path.read_bytes() == b"5" * large
        assert {p.name for p in tmp_path.iterdir()} == {"router.log", "filler"}
        assert log_files.rotate(path, max_bytes=large // 2 - 1)
        assert path.stat().st_size == 0


def test_the_tail_of_one_process_begins_where_its_part_does(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    path.write_text("of the one before\n")
    begins = path.stat().st_size
    assert log_files.tail(path, 5, begins=begins) == []
    with path.open("a") as file:
        file.write("own\n")
    assert log_files.tail(path, 5, begins=begins) == ["own"]
    path.write_text("x\n")  # emptied since
    assert log_files.tail(path, 5, begins=begins) == ["x"]


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert log_files.tail(tmp_path / "none.log", 5) == []
    assert not log_files.rotate(tmp_path / "none.log")
