"""Recording files that are sealed: each part by itself, so that a file can grow; a new data key begins a new file."""

from pathlib import Path

import pytest

from headrace.encryption import LockedError, is_sealed
from headrace.encryption.envelope import read_header
from headrace.encryption.stores import Seen
from headrace.recordings import RecordingError, SegmentWriter, read_frames
from headrace.recordings.frames import Frames
from headrace.recordings.writer import KIND, sealed_files
from tests.encryption_keys import Keys

CONTENTS = [b"first planted", b"", b"third planted"]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def written(folder: Path, keys: Keys, contents: list[bytes] = CONTENTS) -> Path:
    writer = SegmentWriter(folder, 1 << 30, 1 << 20, sealer=keys.sealer())
    writer.append(contents)
    writer.close()
    [path] = folder.iterdir()
    return path


def test_what_is_sealed_is_read_with_its_keys_alone(tmp_path: Path, keys: Keys) -> None:
    path = written(tmp_path / "r", keys)
    assert is_sealed(path.read_bytes())
    assert b"planted" not in path.read_bytes()
    assert list(read_frames(path, keys.sealer(), KIND)) == CONTENTS
    with pytest.raises(LockedError, match="no keys are set"):
        list(read_frames(path))
    with pytest.raises(RecordingError, match="altered"):
        list(read_frames(path, keys.sealer(), "journal"))
    keys.replace()
    with pytest.raises(LockedError):
        list(read_frames(path, keys.sealer(), KIND))


def test_plain_files_are_read_beside_them(tmp_path: Path, keys: Keys) -> None:
    writer = SegmentWriter(tmp_path / "r", 1 << 30, 1 << 20)
    writer.append(CONTENTS)
    writer.close()
    [path] = (tmp_path / "r").iterdir()
    assert list(read_frames(path, keys.sealer(), KIND)) == CONTENTS
    assert sealed_files(tmp_path / "r").look(path) == Seen(plain=True)


def test_a_file_that_was_cut_anywhere_has_what_was_whole(tmp_path: Path, keys: Keys) -> None:
    path = written(tmp_path / "r", keys)
    content = path.read_bytes()
    counts = []
    for end in range(len(content)):
        path.write_bytes(content[:end])
        found = list(read_frames(path, keys.sealer(), KIND))
        assert found == CONTENTS[: len(found)]
        counts.append(len(found))
    assert counts == sorted(counts)
    # A machine that lost its power.
    path.write_bytes(content + bytes(100))
    assert list(read_frames(path, keys.sealer(), KIND)) == CONTENTS


def test_parts_that_were_altered_moved_or_taken_away_are_told(tmp_path: Path, keys: Keys) -> None:
    frames = Frames(keys.sealer(), KIND)
    parts = []
    for content in (b"a", b"b", b"c"):
        parts.append(frames.frame(content))
        frames.kept(parts[-1])
    path = tmp_path / "x.recording"
    for order in ([0, 2], [1], [1, 0], [0, 0], [2, 1, 0]):
        path.write_bytes(frames.beginning + b"".join(parts[i] for i in order))
        with pytest.raises(RecordingError, match=f"{path.name} is damaged"):
            list(read_frames(path, keys.sealer(), KIND))
    path.write_bytes(frames.beginning + b"".join(parts))
    assert list(read_frames(path, keys.sealer(), KIND)) == [b"a", b"b", b"c"]


def test_a_part_that_could_not_be_written_is_not_missed(tmp_path: Path, keys: Keys) -> None:
    frames = Frames(keys.sealer(), KIND)
    first = frames.frame(b"a")
    frames.kept(first)
    frames.frame(b"lost")
    path = tmp_path / "x.recording"
    path.write_bytes(frames.beginning + first + frames.frame(b"b"))
    assert list(read_frames(path, keys.sealer(), KIND)) == [b"a", b"b"]


def test_another_data_key_begins_another_file(tmp_path: Path, keys: Keys) -> None:
    writer = SegmentWriter(tmp_path / "r", 1 << 30, 1 << 20, sealer=keys.sealer())
    writer.append([b"a", b"b"])
    keys.kms.rotate()
    writer.append([b"c"])
    keys.now = 301
    writer.append([b"d"])
    writer.close()
    paths = sorted((tmp_path / "r").iterdir())
    assert [read_header(p.read_bytes())[0].wrapped.version for p in paths] == ["headrace/1", "headrace/2"]
    assert [list(read_frames(p, keys.sealer(), KIND)) for p in paths] == [[b"a", b"b", b"c"], [b"d"]]


def test_keys_that_are_away_for_long_are_an_error_of_the_disk(tmp_path: Path, keys: Keys) -> None:
    writer = SegmentWriter(tmp_path / "r", 1 << 30, 1 << 20, sealer=keys.sealer())
    writer.append([b"a"])
    keys.take_away()
    keys.now = 999
    writer.append([b"b"])
    keys.now = 1001
    with pytest.raises(OSError, match="key management"):
        writer.append([b"c"])
    keys.put_back()
    writer.append([b"d"])
    writer.close()
    paths = sorted((tmp_path / "r").iterdir())
    assert [c for p in paths for c in read_frames(p, keys.sealer(), KIND)] == [b"a", b"b", b"d"]


def test_a_file_is_rewrapped_when_nobody_writes_it(tmp_path: Path, keys: Keys) -> None:
    writer = SegmentWriter(tmp_path / "r", 1 << 30, 1 << 20, sealer=keys.sealer())
    writer.append([b"a"])
    keys.kms.rotate()
    files = sealed_files(tmp_path / "r")
    [path] = files.files()
    before = path.stat()
    with pytest.raises(BlockingIOError):
        files.rewrap(path, keys.sealer())
    writer.close()
    assert files.rewrap(path, keys.sealer())
    assert files.look(path).versions == {"headrace/2"}
    assert (path.stat().st_mtime_ns, path.stat().st_mode) == (before.st_mtime_ns, before.st_mode)
    keys.kms.retire("headrace/1")
    assert list(read_frames(path, keys.sealer(), KIND)) == [b"a"]
