"""Signed heads in a folder outside."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.audit import heads
from headrace.audit.chain import Head
from headrace.resources.manifest import Signer, Verifier, new_keys
from tests.disks import fill, tiny_disk

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
PRIVATE, PUBLIC = new_keys()
SIGN = Signer(PRIVATE).sign_bytes
TRUSTED = Verifier([PUBLIC])


def export(folder: Path, number: int, at: datetime = NOON) -> None:
    heads.export(folder, 1, number, bytes([number]) * 32, at, SIGN)


def numbers(folder: Path) -> list[int]:
    return [head.number for head, *_ in heads.read(folder)]


def test_heads_are_appended_by_day_and_signed(tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    assert numbers(folder) == []
    for number, days in ((1, 0), (2, 0), (3, 1)):
        export(folder, number, NOON + timedelta(days=days))
    assert sorted(path.name for path in folder.iterdir()) == [
        "heads-2026-12-01.jsonl",
        "heads-2026-12-02.jsonl",
    ]
    found = list(heads.read(folder))
    assert [head for head, *_ in found] == [
        Head(1, b"\1" * 32, "heads-2026-12-01.jsonl line 1"),
        Head(2, b"\2" * 32, "heads-2026-12-01.jsonl line 2"),
        Head(3, b"\3" * 32, "heads-2026-12-02.jsonl line 1"),
    ]
    assert all(TRUSTED.signed(content, signature) for _, _, content, signature in found)
    assert not TRUSTED.signed(found[0][2], found[1][3])
    assert {epoch for _, epoch, *_ in found} == {1}


def test_a_line_that_was_cut_off_costs_only_itself(tmp_path: Path) -> None:
    export(tmp_path, 1)
    [path] = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"signed": "{')
    export(tmp_path, 2)
    with path.open("ab") as file:
        file.write(b"[]\n{}\nnothing\n" + b'{"signed": "1", "signature": "00"}\n')
    assert numbers(tmp_path) == [1, 2]


def test_a_full_folder_is_an_error_and_what_is_there_stays(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        export(folder, 1)
        rest = fill(folder, "rest")
        with pytest.raises(OSError, match="No space"):
            export_until_full(folder)
        before = numbers(folder)
        assert before[0] == 1
        rest.unlink()
        export(folder, 100)
        assert numbers(folder) == [*before, 100]


def export_until_full(folder: Path) -> None:
    for number in range(2, 100):
        export(folder, number)
