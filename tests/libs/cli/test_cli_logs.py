"""Logs: bounded while their writers go on, and read from the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from headrace.cli import logs


def test_a_writer_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "router.log"
    with path.open("ab", buffering=0) as writer:
        for number in range(5):
            writer.write(f"{number}".encode() * 100 + b"\n")
            assert logs.rotate(path, max_bytes=100, kept=2)
        writer.write(b"last\n")
    assert not logs.rotate(path, max_bytes=100, kept=2)
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
        assert logs.tail(Path(file.name), count, block_bytes) == lines[-count:]


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    assert logs.tail(tmp_path / "none.log", 5) == []
    assert not logs.rotate(tmp_path / "none.log")
