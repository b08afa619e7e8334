"""What lies in the place of a file (a FIFO, a folder) can block nobody who reads a folder."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.hop.config import ConfigError
from headrace.pipeline import DocumentError
from headrace.pipeline.document.files import read as read_document
from headrace.repository.records import Records
from headrace.state import plain_files, traces


def within(call: Callable[[], object]) -> list[object]:
    """What it returns or raises; it may not hang."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except (OSError, ConfigError, DocumentError) as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "it waits for somebody who writes"
    return found


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_plain_file_is_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    (tmp_path / "plain").write_bytes(b"content")
    assert plain_files.read(tmp_path / "plain", 4) == b"cont"
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    assert plain_files.read(tmp_path / "link") == b"content"
    make(tmp_path / "other")
    assert isinstance(within(lambda: plain_files.read(tmp_path / "other"))[0], OSError)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "pipeline document": ("p/pipeline.yaml", lambda at: read_document(at / "p" / "pipeline.yaml")),
    "record of models": ("serving.json", lambda at: Records(at).serving()),
    "traces": (traces.FILE, lambda at: traces.find(at, "r")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_fifo_in_a_folder_hangs_no_reader(tmp_path: Path, name: str) -> None:
    path, read = READERS[name]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / path)
    assert within(lambda: read(tmp_path))
