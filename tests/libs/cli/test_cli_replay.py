"""`headrace replay`, as a person types it: recordings against real models, run by the services' own code."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from headrace.columns import Batch, Column, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import Decision, ModelUse
from headrace.recordings import Record, SegmentWriter, encode_record
from tests.libs.cli.replay_home import DOCUMENT, typed

REFUSED = RowError(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, "none", "store")
UNREADABLE = RowError(Code.INVALID_ARGUMENT, Reason.REASON_STEP_FAILED, "no such key", "store")


@pytest.fixture
def home(replay_home: Path) -> Path:
    """A home with two versions of the model `times`, and a release for each; the newer one refuses rows without values."""
    return replay_home


def record(
    name: str,
    xs: Sequence[float],
    scores: Sequence[float | None],
    errors: dict[int, RowError] | None = None,
    factor: float = 2.0,
) -> Record:
    """What release 1 answered."""
    count = len(xs)
    rows = Rows([name] * count, ["t"] * count, [1] * count, [0.0] * count, [""] * count)
    there = np.array([s is not None for s in scores])
    score = np.array([s or 0.0 for s in scores])
    x = np.array(xs, np.float32)
    used = np.where(there, score, -1.0).astype(np.float32)
    y = np.stack([x, used], axis=1) * np.float32(factor)
    return Record(
        "scored",
        datetime.now(UTC),
        Batch.of(rows, [Column.of("x", x)]),
        {
            "score": Column.of("score", score, there),
            "@age_us/user": Column.of("@age_us/user", np.where(there, 5, -1)),
            "@source/user": Column.of("@source/user", np.where(there, 1, 2).astype(np.uint8)),
        },
        Batch(rows, {"y": Column.of("y", y)}, errors or {}),
        Decision(3, "ab" * 32, "live", [ModelUse("sum", "times", "1", "ff")]),
        (),
        ("key",),
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """A folder of recordings."""

    def write(*records: Record) -> Path:
        writer = SegmentWriter(tmp_path / "recordings", 1 << 30, 1 << 20)
        writer.append(map(encode_record, records))
        writer.close()
        return tmp_path / "recordings"

    return write


def replayed(home: Path, folder: Path, *options: str | Path) -> tuple[int, str]:
    """Exit code, and what was printed as one line."""
    result = typed("replay", folder, "-p", "scored", "--home", home, *options)
    return result.exit_code, " ".join(result.output.split())


def test_the_same_version_answers_the_same_bit_for_bit(home: Path, recorded: Callable[..., Path]) -> None:
    folder = recorded(
        record("a", [1.0, 2.5, 0.1], [0.3, None, 7.0]),
        record("b", [9.0, 8.0], [1.0, 2.0], {0: UNREADABLE}),
        record("c", [1e-30], [1e30]),
        replace(record("d", [4.0], [9.0]), pipeline="another"),
    )
    code, told = replayed(home, folder, "--release", "1")
    assert (code, told) == (
        0,
        "candidate scored, release 1, arm live, version 3 model times 1 requests 3 in 3 batches, 6 rows "
        "verdict all answers are the same bit for bit",
    )


def test_planted_differences_are_named(home: Path, recorded: Callable[..., Path]) -> None:
    planted = record("planted", [1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    planted.answer.columns["y"].array[1, 1] = np.nextafter(np.float32(1.0), np.float32(2.0))
    also = record("also", [1.0], [None], {0: REFUSED})
    folder = recorded(record("same", [1.0], [2.0]), planted, also)
    code, told = replayed(home, folder, "--release", "1")
    assert code == 1
    assert "2 rows (40.00%) are not the same bit for bit" in told
    assert "y 4 1 0 0 1.19e-07" in told
    assert "planted 1 y [4.0, 1.0000001] [4.0, 1.0]" in told
    assert "also 0 (error) FAILED_PRECONDITION FEATURE_UNAVAILABLE: none answered" in told
    code, told = replayed(home, folder, "--release", "1", "--show", "1")
    assert "planted 1 y" in told
    assert "also 0" not in told


def test_a_difference_within_the_tolerance_is_none(home: Path, recorded: Callable[..., Path]) -> None:
    planted = record("planted", [1.0, 2.0], [0.5, 0.5])
    planted.answer.columns["y"].array[1, 1] = 1.00001
    folder = recorded(planted)
    assert replayed(home, folder, "--release", "1", "--tolerance", "0.001")[0] == 0
    assert replayed(home, folder, "--release", "1", "--tolerance", "1e-6")[0] == 1


def test_another_model_or_document_is_a_candidate(
    home: Path, recorded: Callable[..., Path], tmp_path: Path
) -> None:
    folder = recorded(record("a", [1.0, 0.0], [0.3, 1.0]), record("b", [1.0], [None]))
    code, told = replayed(home, folder, "--release", "1", "--models", "times=2")
    assert code == 1
    assert "model times 1 → 2" in told
    assert "y 3 3 " in told
    # The current release refuses the row without values.
    code, told = replayed(home, folder)
    assert code == 1
    assert "candidate scored, release 2, arm live" in told
    assert "b 0 (error) answered FAILED_PRECONDITION FEATURE_UNAVAILABLE" in told
    document = tmp_path / "pipeline.yaml"
    document.write_text(DOCUMENT.replace("RULE", "default").replace("score: -1.0", "score: -2.0"))
    code, told = replayed(home, folder, "--release", "1", "--document", document)
    assert code == 1
    assert "1 rows (33.33%)" in told
    assert "b 0 y [2.0, -2.0] [2.0, -4.0]" in told


def test_what_was_not_recorded_is_said(home: Path, recorded: Callable[..., Path], tmp_path: Path) -> None:
    folder = recorded(record("a", [1.0], [0.3]))
    document = tmp_path / "pipeline.yaml"
    text = DOCUMENT.replace("RULE", "default")
    document.write_text(text.replace("outputs: [y]", "outputs: [y, key]"))
    code, told = replayed(home, folder, "--document", document)
    assert code == 1
    assert "the input 'key', which (outputs) reads, was not recorded: it is personal data" in told
    document.write_text(text.replace("{score: float64}", "{score: float64, age: float64}"))
    code, told = replayed(home, folder, "--document", document)
    assert code == 1
    assert "the features age of stage 'store' were not recorded" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--release", "9"), "release 9 of scored is not kept; there are: 2, 1"),
        (("--arm", "next"), "release 2 of scored has no arm 'next'; it has live"),
        (("--models", "time=2"), "pipeline scored runs no model 'time'; did you mean 'times'?"),
        (("--models", "times=7"), "7"),
        (("--models", "times"), "times: write NAME=VERSION"),
    ],
)
def test_a_candidate_that_is_not_there_is_named(
    home: Path, recorded: Callable[..., Path], options: tuple[str, ...], said: str
) -> None:
    code, told = replayed(home, recorded(record("a", [1.0], [0.3])), *options)
    assert code == 1
    assert said in told


def test_files_that_are_no_recordings_or_of_no_request_are_refused(
    home: Path, tmp_path: Path, recorded: Callable[..., Path]
) -> None:
    (tmp_path / "x.recording").write_text("something else")
    code, told = replayed(home, tmp_path)
    assert (code, "is no recording of a router" in told) == (1, True)
    (tmp_path / "x.recording").unlink()
    code, told = replayed(home, tmp_path)
    assert (code, "no file *.recording is in" in told) == (1, True)
    result = typed("replay", tmp_path, "-p", "scord", "--home", home)
    assert result.exit_code == 1
    folder = recorded(replace(record("d", [4.0], [9.0]), pipeline="another"))
    code, told = replayed(home, folder)
    assert (code, "there is no request of pipeline scored" in told) == (1, True)
