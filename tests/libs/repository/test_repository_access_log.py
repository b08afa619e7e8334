"""The access log: whole lines, whoever writes."""

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.repository import AccessLog
from headrace.state.json_lines import entries
from tests.disks import fill, tiny_disk

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def write(path: Path, who: str, count: int) -> None:
    log = AccessLog(path, who, lambda: NOON)
    for i in range(count):
        log.record("loaded", "light", str(i), sha256="ab" * 32)


def test_several_processes_write_one_log(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "models.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(path, f"w{i}", 25)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = list(entries(path))

    assert len(found) == 75
    assert {e["who"] for e in found} == {"w0", "w1", "w2"}
    assert found[0]["at"] == "2026-01-01T12:00:00.000+00:00"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, "me", 5)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:20] + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match="line 3: it is damaged"):
        list(entries(path))


def test_what_strangers_wrote_stays_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    AccessLog(path, "me").record("refused", "m" * 9999, "1\n2", reason="x\n" * 9999)
    AccessLog(path, "me").record("refused", "light", "1", reason="")
    first, second = entries(path)
    assert (len(first["model"]), len(first["reason"])) == (128, 2000)
    assert "reason" not in second


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        path = tmp_path / "log"
        write(path, "me", 3)
        filler = fill(tmp_path, "filler")
        with pytest.raises(OSError, match="No space left"):
            AccessLog(path, "me").record("refused", "light", "1", reason="x" * 2000, problem="y" * 2000)
        filler.unlink()
        write(path, "me", 3)
        assert len(list(entries(path))) == 6
