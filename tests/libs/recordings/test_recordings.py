"""Recording files: what is written is read, whatever happened to the file; folders stay within their bounds."""

import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import Decision, ModelUse
from headrace.recordings import (
    Record,
    RecordingError,
    SegmentWriter,
    decode_record,
    encode_record,
    read_frames,
    read_records,
)
from headrace.recordings.frames import MAGIC, frame
from tests.disks import fill, tiny_disk

AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
contents = st.lists(st.binary(max_size=50), max_size=8)


def record() -> Record:
    rows = Rows(["a", "a", "b"], ["t"] * 3, [1, 1, 5], [9.0] * 3, ["trace"] * 3)
    broken = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "it broke", "sum", {"model": "m"})
    key = Column.of_text("key", ["x", None, "zz"])
    score = Column.of("score", np.array([1.5, np.nan, -0.0]), np.array([True, True, False]))
    y = Column.of("y", np.array([[1.0, 2.0]] * 3, np.float32))
    return Record(
        "p",
        AT,
        Batch.of(rows, [key]),
        {"score": score, "@source/user": Column.of("@source/user", np.array([1, 1, 2], np.uint8))},
        Batch(rows, {"y": y}, {1: broken}),
        Decision(3, "ab" * 32, "live", [ModelUse("sum", "m", "7", "cd" * 32, "onnxruntime")]),
        ["features/user:not_found"],
        ["name"],
    )


def test_a_record_is_read_as_it_was_written() -> None:
    written = record()
    read = decode_record(encode_record(written))
    assert (read.pipeline, read.at, read.decision) == (written.pipeline, AT, written.decision)
    assert (read.fallbacks, read.redacted) == (["features/user:not_found"], ["name"])
    assert read.inputs.rows.request_ids == ["a", "a", "b"]
    assert read.inputs.rows.priorities == [1, 1, 5]
    assert read.inputs.rows.traceparents == [""] * 3
    assert read.inputs.columns["key"].text() == ["x", None, "zz"]
    score = read.features["score"]
    assert score.array.tobytes()[:16] == written.features["score"].array.tobytes()[:16]
    assert score.is_valid().tolist() == [True, True, False]
    assert read.features["@source/user"].array.tolist() == [1, 1, 2]
    assert read.answer.errors == written.answer.errors
    assert read.answer.columns["y"].array.tobytes() == written.answer.columns["y"].array.tobytes()


@pytest.mark.parametrize("content", [b"\xff\xff", b"", b"\x0a\x01p"])
def test_a_frame_that_holds_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(RecordingError):
        decode_record(content)


@given(contents, st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_that_ends_anywhere_gives_its_complete_frames(
    tmp_path: Path, given_contents: list[bytes], data: st.DataObject
) -> None:
    whole = MAGIC + b"".join(map(frame, given_contents))
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path / "one.recording"
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
    path = tmp_path / "one.recording"
    path.write_bytes(whole)
    found: list[bytes] = []
    try:
        found.extend(read_frames(path))
    except RecordingError:
        pass
    else:
        # A length that is too large looks like the end of a file whose writer was killed.
        assert len(found) < len(given_contents)
    assert found == given_contents[: len(found)]


def test_an_error_names_the_file_and_the_frame(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(MAGIC + frame(encode_record(record())) + frame(b"\xff"))
    records = read_records([tmp_path / "a"])
    assert next(records).pipeline == "p"
    with pytest.raises(RecordingError, match=r"a, frame 2: a frame holds no"):
        next(records)
    (tmp_path / "b").write_text("something else entirely")
    with pytest.raises(RecordingError, match="b is no recording"):
        next(read_records([tmp_path / "b"]))


def files(folder: Path) -> Sequence[Path]:
    return sorted(folder.iterdir())


def test_files_are_private_rotated_and_the_oldest_removed(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "recordings"
    times = iter(datetime(2026, 1, 1, 0, 0, i, tzinfo=UTC) for i in range(60))
    writer = SegmentWriter(folder, 1000, 250, lambda: next(times))
    for i in range(40):
        writer.append([bytes([i]) * 92])
    writer.close()
    # 100 bytes a frame: two in each file beside the eight that begin it.
    assert all(path.stat().st_size == 208 for path in files(folder))
    assert sum(path.stat().st_size for path in files(folder)) <= 1000
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(folder)} == {0o600}
    kept = [content[0] for path in files(folder) for content in read_frames(path)]
    assert kept == list(range(40))[-len(kept) :]
    assert len(kept) >= 6


def test_a_frame_larger_than_a_file_has_one_for_itself(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, 10_000, 100)
    writer.append([b"a" * 500, b"b"])
    writer.close()
    assert [list(read_frames(path)) for path in files(tmp_path)] == [[b"a" * 500], [b"b"]]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x" * 5000)
    writer = SegmentWriter(tmp_path, 1000, 200)
    for _ in range(30):
        writer.append([b"c" * 90])
    writer.close()
    assert (tmp_path / "notes.txt").exists()


def test_after_an_error_a_new_file_is_begun(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.write_text("a file stands in the way")
    writer = SegmentWriter(folder, 10_000, 1000)
    with pytest.raises(OSError, match="exists"):
        writer.append([b"lost"])
    folder.unlink()
    writer.append([b"kept"])
    writer.close()
    assert [list(read_frames(path)) for path in files(folder)] == [[b"kept"]]


def test_what_was_written_before_the_disk_was_full_can_be_read(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as disk:
        writer = SegmentWriter(disk, 1 << 30, 1 << 20)
        writer.append([b"first"])
        filler = fill(disk, "filler")
        with pytest.raises(OSError, match="No space left"):
            writer.append([b"second"] + [os.urandom(4096)] * 300)
        filler.unlink()
        writer.append([b"last"])
        writer.close()
        found = [content for path in files(disk) for content in read_frames(path)]
    assert found[0] == b"first"
    assert found[-1] == b"last"
