"""The writer: what it acknowledged survives a kill at any file that it writes, and the checkpoint always holds."""

import base64
import errno
import hashlib
from pathlib import Path

import pytest

from headrace.audit import LogBusyError, LogError, Writer, verify
from headrace.audit.notes import opened
from headrace.audit.tiles import TileFiles, tile_path
from tests.libs.audit.audit_logs import (
    SIGNER,
    Killed,
    KilledError,
    all_files,
    entry,
    filled,
    quick,
    release,
    texts,
)


def entries_of(folder: Path) -> list[bytes]:
    """All that the checkpoint covers."""
    checkpoint, _ = opened((folder / "checkpoint").read_bytes(), SIGNER.verifier)
    tiles = TileFiles(folder, checkpoint.size)
    return [e for i in range(-(-tiles.size // 256)) for e in tiles.bundle(i)]


def test_paths_are_those_of_tlog_tiles() -> None:
    assert tile_path(0, 0) == "tile/0/000"
    assert tile_path(2, 1_234_067) == "tile/2/x001/x234/067"
    assert tile_path(None, 1_000, 7) == "tile/entries/x001/000.p/7"


def test_a_log_is_a_checkpoint_tiles_and_bundles(tmp_path: Path) -> None:
    filled(tmp_path, 600)
    assert " ".join(str(p.relative_to(tmp_path)) for p in all_files(tmp_path)) == (
        "checkpoint tile/0/000 tile/0/001 tile/0/002.p/88 tile/1/000.p/2 tile/entries/000 "
        "tile/entries/001 tile/entries/002.p/88"
    )
    assert entries_of(tmp_path) == [entry(i) for i in range(600)]
    assert verify(tmp_path, SIGNER.verifier).holds


def test_an_outside_builder_makes_the_same_bytes(tmp_path: Path) -> None:
    """The digests are of files that `aics-tlog build-tiles` (PyPI aics-tlog 0.2.1) made of these entries."""
    filled(tmp_path, 600)
    digests = {
        str(p.relative_to(tmp_path / "tile")): hashlib.sha256(p.read_bytes()).hexdigest()[:16]
        for p in all_files(tmp_path / "tile")
    }
    assert digests == {
        "0/000": "a2879fd58255bf1a",
        "0/001": "811ac81119cf3e5c",
        "0/002.p/88": "4d328d5a8d87a2dd",
        "1/000.p/2": "6d9d2c19ddfad6b1",
        "entries/000": "4fc028dd2e490168",
        "entries/001": "99b55e401d89a1a9",
        "entries/002.p/88": "3185e0044222cba9",
    }
    checkpoint, _ = opened((tmp_path / "checkpoint").read_bytes(), SIGNER.verifier)
    assert base64.b64encode(checkpoint.root) == b"lcerGxr73UDkCatZnMXbjNm1AqUrRBsS1u0uUHxzh2E="


def test_partial_tiles_of_checkpoints_stay_until_the_full_one_is_there(tmp_path: Path) -> None:
    log = Writer(tmp_path, SIGNER, quick)
    for count in (10, 20, 30):
        log.append([entry(i) for i in range(log.size, count - 5)])  # no checkpoint needs this bundle
        log.append([entry(i) for i in range(log.size, count)])
        log.publish()
    assert sorted(int(p.name) for p in (tmp_path / "tile/entries/000.p").iterdir()) == [10, 20, 30]
    log.append([entry(i) for i in range(30, 300)])
    log.publish()
    assert not (tmp_path / "tile/entries/000.p").exists()
    assert not (tmp_path / "tile/0/000.p").exists()
    log.close()
    assert verify(tmp_path, SIGNER.verifier).holds


def test_nothing_new_is_no_new_checkpoint(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    before = (tmp_path / "checkpoint").stat().st_ino
    log = Writer(tmp_path, SIGNER, quick)
    log.publish()
    log.close()
    assert (tmp_path / "checkpoint").stat().st_ino == before


def test_one_process_writes(tmp_path: Path) -> None:
    log = Writer(tmp_path, SIGNER, quick)
    with pytest.raises(LogBusyError, match="another process writes"):
        Writer(tmp_path, SIGNER, quick)
    log.close()
    Writer(tmp_path, SIGNER, quick).close()


def test_an_entry_that_is_too_long_is_refused_and_nothing_written(tmp_path: Path) -> None:
    log = Writer(tmp_path, SIGNER, quick)
    log.append([b"x" * 65_535])
    with pytest.raises(ValueError, match="65535"):
        log.append([b"fine", b"x" * 65_536])
    assert log.size == 1
    log.close()


def _work(folder: Path, write: Killed, batches: list[int], every: int) -> int:
    """Appends batches and publishes after every `every`-th, until it is killed. Returns how many entries were acknowledged."""
    done, log = 0, None
    try:
        log = Writer(folder, SIGNER, write)
        done = log.size
        for number, count in enumerate(batches):
            log.append([entry(i) for i in range(done, done + count)])
            done += count
            if number % every == 0:
                log.publish()
        log.publish()
    except KilledError:
        pass
    finally:
        if log is not None:
            release(log)
    return done


@pytest.mark.parametrize("how", ["before", "within", "after"])
def test_a_kill_at_any_write_loses_nothing_that_was_acknowledged(tmp_path: Path, how: str) -> None:
    batches, at = [100, 200, 3, 256, 50, 170], 1
    while True:
        folder = tmp_path / str(at)
        write = Killed(at, how)
        done = _work(folder, write, batches, 2)
        if write.left > 0:
            break  # it was never killed: all writes have had their turn
        # What takes up what there is may be killed, too.
        done = max(done, _work(folder, Killed(at % 12 + 1, how), batches, 2))
        Writer(folder, SIGNER, quick).close()
        held = entries_of(folder)
        assert len(held) >= done
        assert held == [entry(i) for i in range(len(held))]
        report = verify(folder, SIGNER.verifier)
        assert report.holds, texts(report)
        at += 1
    assert at > 15


def test_a_full_disk_takes_nothing_half(tmp_path: Path) -> None:
    full = False

    def write(path: Path, content: bytes) -> None:
        if full and "002" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        quick(path, content)

    log = Writer(tmp_path, SIGNER, write)
    log.append([entry(i) for i in range(300)])
    log.publish()
    full = True
    with pytest.raises(OSError, match="No space"):
        log.append([entry(i) for i in range(300, 700)])
    assert log.size == 512  # two bundles are full, the third has none
    assert log.checkpoint.size == 300
    full = False
    log.append([entry(i) for i in range(512, 700)])
    log.publish()
    log.close()
    assert entries_of(tmp_path) == [entry(i) for i in range(700)]
    assert verify(tmp_path, SIGNER.verifier).holds


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("checkpoint", "not signed|no signed note"),
        ("tile/0/001.p/44", "not those"),
        ("tile/entries/001.p/44", "damaged"),
    ],
)
def test_a_damaged_log_is_not_written_on(tmp_path: Path, path: str, says: str) -> None:
    filled(tmp_path, 300)
    file = tmp_path / path
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(LogError, match=says) as told:
        Writer(tmp_path, SIGNER, quick)
    assert "headrace audit verify" in str(told.value)
    content[5] ^= 1
    file.write_bytes(content)
    Writer(tmp_path, SIGNER, quick).close()


def test_a_lost_checkpoint_is_not_signed_anew(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(LogError, match="no checkpoint"):
        Writer(tmp_path, SIGNER, quick)
