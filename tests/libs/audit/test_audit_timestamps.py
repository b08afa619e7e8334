"""Timestamps of checkpoints by a real authority (`openssl ts`): what holds, what does not, and that the log goes on without."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.audit.witness import TimestampClient, WitnessError
from tests.libs.audit.audit_authority import Authority, authority
from tests.libs.audit.audit_logs import SIGNER, filled


@pytest.fixture
def tsa(tmp_path: Path) -> Iterator[Authority]:
    with authority(tmp_path / "tsa") as made:
        yield made


def client(tsa: Authority, tmp_path: Path, every_s: float = 1e-9, wall: float = 0.0) -> TimestampClient:
    log = tmp_path / "log"
    return TimestampClient(
        "tsa", tsa.url, tsa.roots, log, SIGNER.verifier, every_s, lambda: wall or time.time()
    )


def test_a_checkpoint_is_stamped_and_anybody_can_check_it(tsa: Authority, tmp_path: Path) -> None:
    filled(tmp_path / "log", 300)
    stamping = client(tsa, tmp_path)
    assert stamping.last() is None
    assert stamping.submit()
    assert not stamping.submit()
    last = stamping.last()
    assert last is not None
    assert last.size == 300
    filled(tmp_path / "log", 301)
    assert stamping.submit()
    [token] = (tmp_path / "log/timestamps/tsa").glob("*.tsr")  # of a day the last one
    checked = ["openssl", "ts", "-verify", "-in", str(token), "-data", str(token.with_suffix(".checkpoint"))]
    done = subprocess.run([*checked, "-CAfile", str(tsa.roots)], check=True, capture_output=True, text=True)
    assert "Verification: OK" in done.stdout
    made = stamping.time()
    assert made is not None
    assert f"{made:%Y%m%d}" in token.name


def test_each_day_keeps_one_and_it_is_not_asked_too_often(tsa: Authority, tmp_path: Path) -> None:
    for day in range(2):
        now = time.time() + day * 86_400
        for more in range(2):
            filled(tmp_path / "log", 1 + 10 * day + more)
            client(tsa, tmp_path, every_s=3600, wall=now).submit()
    assert tsa.asked == 3  # the token says today for the second day, too, so its age is a day both times
    kept = sorted(p.name.partition("-")[2] for p in (tmp_path / "log/timestamps/tsa").glob("*.checkpoint"))
    assert kept == ["1.checkpoint", "12.checkpoint"]


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (503, None, "HTTP status 503"),
        (200, b"", "no timestamp"),
        (200, b"<html>", "no timestamp"),
        (200, b"\x30\x03\x02\x01\x00", "no timestamp"),
        (200, bytes.fromhex("300530030201" + "02"), "refused, status 2"),
        (200, b"x" * 300_000, "more than 262144 bytes"),
    ],
)
def test_a_wrong_answer_is_told_and_asked_again(
    tsa: Authority, tmp_path: Path, status: int, answer: bytes | None, says: str
) -> None:
    filled(tmp_path / "log", 3)
    stamping = client(tsa, tmp_path)
    tsa.status, tsa.answer = status, answer
    with pytest.raises(WitnessError, match=says) as told:
        stamping.submit()
    assert not told.value.refused
    assert stamping.last() is None
    tsa.status, tsa.answer = 200, None
    assert stamping.submit()


def test_an_authority_that_is_away_is_told_and_asked_again(tsa: Authority, tmp_path: Path) -> None:
    filled(tmp_path / "log", 3)
    gone, tsa.url = tsa.url, "http://127.0.0.1:9"
    with pytest.raises(WitnessError, match="can't be asked") as told:
        client(tsa, tmp_path).submit()
    assert not told.value.refused
    tsa.url = gone
    assert client(tsa, tmp_path).submit()


def test_a_timestamp_of_something_else_or_of_another_authority_is_none(
    tsa: Authority, tmp_path: Path
) -> None:
    filled(tmp_path / "log", 3)
    with authority(tmp_path / "other") as other:
        asked = client(tsa, tmp_path)
        asked._url = other.url
        with pytest.raises(WitnessError, match="no timestamp of this log"):
            asked.submit()
    # Replayed: an older answer to another query.
    (tmp_path / "data").write_bytes(b"something else")
    query = ["openssl", "ts", "-query", "-data", str(tmp_path / "data"), "-sha256", "-cert"]
    tsa.answer = tsa.stamp(subprocess.run(query, check=True, capture_output=True).stdout)
    with pytest.raises(WitnessError, match="no timestamp of this log"):
        client(tsa, tmp_path).submit()
    tsa.roots.write_text("nothing")
    with pytest.raises(WitnessError, match="holds no certificates"):
        client(tsa, tmp_path).submit()
    assert client(tsa, tmp_path).last() is None


def test_a_log_written_anew_or_cut_off_does_not_go_on_from_its_timestamp(
    tsa: Authority, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    filled(log, 300)
    client(tsa, tmp_path).submit()
    for size, change, says in ((200, b"", "truncated"), (400, b" ", "written anew")):
        shutil.move(log / "timestamps", tmp_path / "kept")
        shutil.rmtree(log)
        filled(log, size, change)
        shutil.move(tmp_path / "kept", log / "timestamps")
        with pytest.raises(WitnessError, match=says) as told:
            client(tsa, tmp_path).submit()
        assert told.value.refused


@pytest.mark.parametrize("suffix", [".tsr", ".checkpoint"])
def test_an_altered_timestamp_is_a_sign_of_harm(tsa: Authority, tmp_path: Path, suffix: str) -> None:
    filled(tmp_path / "log", 300)
    stamping = client(tsa, tmp_path)
    stamping.submit()
    [file] = (tmp_path / "log/timestamps/tsa").glob(f"*{suffix}")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(WitnessError, match="does not hold") as told:
        stamping.last()
    assert told.value.refused


def test_half_a_timestamp_counts_as_none(tsa: Authority, tmp_path: Path) -> None:
    filled(tmp_path / "log", 3)
    stamping = client(tsa, tmp_path)
    stamping.submit()
    [file] = (tmp_path / "log/timestamps/tsa").glob("*.checkpoint")
    file.unlink()  # killed between the two
    assert stamping.last() is None
    assert stamping.submit()
