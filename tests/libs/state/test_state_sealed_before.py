"""What an earlier version sealed is found wherever it begins; plain files and what is no file are passed by."""

import os
from pathlib import Path

import pytest

from headrace.hop.config import ConfigError
from headrace.state.files.sealed_before import LINE, MAGIC, refuse_sealed

PLAIN = b'{"time": "now", "kind": "denied"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events/segments/1-2-ff.parquet", MAGIC + b"\x0bheadrace/1"),
        ("events/open/ff.arrows", MAGIC),
        ("security.jsonl", LINE + b"djEL\n"),
        # Keys were switched on while there were plain lines.
        ("security.jsonl", PLAIN * 10_000 + LINE + b"djEL\n"),
        ("security.jsonl.2", LINE + b"djEL\n"),
    ],
)
def test_the_first_sealed_file_is_named_and_left_alone(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        refuse_sealed(tmp_path / "nowhere", tmp_path / "events", None, tmp_path / "security.jsonl")
    assert str(caught.value).startswith(f"{path} is of an earlier version of headrace that sealed its files")
    assert path.read_bytes() == content


def test_plain_files_are_passed_by(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    (folder / "1-2-ff.parquet").write_bytes(b"PAR1" + MAGIC)
    (folder / "empty").touch()
    (folder / "short").write_bytes(MAGIC[:3])
    os.mkfifo(folder / "fifo")
    (tmp_path / "security.jsonl").write_bytes(PLAIN + b'{"text": "' + LINE + b'"}\n')
    refuse_sealed(folder, tmp_path / "security.jsonl")
