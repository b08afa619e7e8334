"""Files of the journal: what is written is read, whatever happened to the file."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.router.events.regulated.frames import MAGIC, JournalError, frame, read_frames
from services.router.events.regulated.journal_file import JournalFiles
from tests.disks import fill, tiny_disk

contents = st.lists(st.binary(max_size=50), max_size=8)


@given(contents, st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_anywhere_gives_its_complete_frames(
    tmp_path: Path, given_contents: list[bytes], data: st.DataObject
) -> None:
    whole = MAGIC + b"".join(map(frame, given_contents))
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path / "one.journal"
    path.write_bytes(whole[:cut])
    found = list(read_frames(path))
    assert found == given_contents[: len(found)]
    complete, place = 0, len(MAGIC)
    for content in given_contents:
        place += len(frame(content))
        complete += place <= cut
    assert len(found) == complete


@given(contents.filter(any), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_is_noticed_or_ends_the_file(
    tmp_path: Path, given_contents: list[bytes], data: st.DataObject
) -> None:
    whole = bytearray(MAGIC + b"".join(map(frame, given_contents)))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "one.journal"
    path.write_bytes(whole)
    found: list[bytes] = []
    try:
        found.extend(read_frames(path))
    except JournalError:
        pass
    else:
        # A length that is too large looks like the end of a file whose writer was killed.
        assert len(found) < len(given_contents)
    assert found == given_contents[: len(found)]


def test_a_full_disk_leaves_nothing_of_what_failed(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as disk:
        files = JournalFiles(disk, 1 << 30, 1 << 22)
        files.append(7, b"first")
        filler = fill(disk, "filler")
        with pytest.raises(OSError, match="No space left"):
            files.append(7, os.urandom(1 << 20))
        filler.unlink()
        files.append(7, b"last")
        files.rotate()
        assert [content for path in files.complete() for content in files.frames(path)] == [b"first", b"last"]
        assert files.size_bytes() == 2 * len(MAGIC) + len(frame(b"first") + frame(b"last"))
