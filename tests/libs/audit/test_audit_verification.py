"""Whatever somebody does to a log is found: a flipped byte, entries removed, added, moved or cut off, a forged checkpoint."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.audit import Report, Signer, Writer, verify
from headrace.audit.notes import Checkpoint, opened, sign
from headrace.audit.tiles import TileFiles, encode_bundle
from tests.libs.audit.audit_logs import SIGNER, all_files, entry, filled, quick, texts

SIZE = 600
# How somebody changes the list of entries.
CHANGES: dict[str, Callable[[list[bytes], int, int], list[bytes]]] = {
    "altered": lambda entries, i, _: [*entries[:i], entries[i][:-2] + b"y}", *entries[i + 1 :]],
    "removed": lambda entries, i, _: entries[:i] + entries[i + 1 :],
    "added": lambda entries, i, _: [*entries[:i], b"new", *entries[i:]],
    "moved": lambda entries, i, j: _swapped(entries, i, (i + 1 + j) % len(entries)),
    "truncated": lambda entries, i, _: entries[: max(i, 1)],
}


def _swapped(entries: list[bytes], i: int, j: int) -> list[bytes]:
    made = list(entries)
    made[i], made[j] = made[j], made[i]
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of SIZE entries; never changed."""
    folder = tmp_path_factory.mktemp("made")
    # With partial tiles of older checkpoints.
    for size in (100, 520, 550, SIZE):
        filled(folder, size)
    return folder


def entries() -> list[bytes]:
    return [entry(i) for i in range(SIZE)]


def seen(folder: Path) -> Checkpoint:
    return opened((folder / "checkpoint").read_bytes(), SIGNER.verifier)[0]


def checked(folder: Path, **witnessed: Checkpoint) -> Report:
    return verify(folder, SIGNER.verifier, witnessed=witnessed)


def copied(made: Path, factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp("log") / "copy"
    shutil.copytree(made, folder)
    return folder


def test_a_whole_log_holds(made: Path) -> None:
    told: list[tuple[int, int]] = []
    report = verify(made, SIGNER.verifier, progress=lambda done, size: told.append((done, size)))
    assert (report.holds, report.size, report.uncovered, report.root) == (True, SIZE, 0, seen(made).root)
    assert told == [(256, SIZE), (512, SIZE), (SIZE, SIZE)]
    assert "no witness" in report.notes[-1]
    assert checked(made, second=seen(made)).notes == []


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found(
    made: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = copied(made, tmp_path_factory)
    file = data.draw(st.sampled_from(all_files(folder)))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    assert not checked(folder).holds


@settings(max_examples=40, deadline=None)
@given(change=st.sampled_from(sorted(CHANGES)), i=st.integers(0, SIZE - 1), j=st.integers(0, SIZE - 2))
def test_changed_entries_are_found_whatever_is_recomputed(
    made: Path, tmp_path_factory: pytest.TempPathFactory, change: str, i: int, j: int
) -> None:
    """By somebody without the key: in the bundles alone, or with all tiles computed anew."""
    changed = CHANGES[change](entries(), i, j)
    bundles_alone = copied(made, tmp_path_factory)
    for start in range(0, SIZE, 256):
        width = min(SIZE - start, 256)
        name = f"tile/entries/{start // 256:03d}" + ("" if width == 256 else f".p/{width}")
        (bundles_alone / name).write_bytes(encode_bundle(changed[start : start + 256]))
    assert not checked(bundles_alone).holds

    anew = tmp_path_factory.mktemp("anew")
    log = Writer(anew, SIGNER, quick)
    log.append(changed)
    log.publish()
    log.close()
    shutil.copy(made / "checkpoint", anew / "checkpoint")
    assert not checked(anew).holds


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_log_that_was_signed_anew_is_found_by_a_witness(made: Path, tmp_path: Path, change: str) -> None:
    log = Writer(tmp_path, SIGNER, quick)
    log.append(CHANGES[change](entries(), 300, 20))
    log.publish()
    log.close()
    # The owner of the key did it: the tree is whole, though lines of a journal may miss.
    assert all(f.where.startswith("entry") for f in checked(tmp_path).findings)
    report = checked(tmp_path, second=seen(made))
    assert "witness second" in texts(report)


def test_an_older_state_put_back_is_found_by_a_witness(made: Path, tmp_path: Path) -> None:
    filled(tmp_path, 500)
    older = seen(tmp_path)
    report = checked(tmp_path, second=seen(made))
    assert texts(report) == "witness second: it saw 600 entries; the log has 500: it was truncated"
    assert checked(made, second=older).holds


def test_a_forged_checkpoint_is_found(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    other = Signer(SIGNER.name, Ed25519PrivateKey.generate())
    real = seen(made)
    longer, elsewhere = replace(real, size=SIZE + 1), replace(real, origin="elsewhere")
    for forged in (
        sign(real, other),
        sign(longer, other),
        (made / "checkpoint").read_bytes().replace(b"600", b"601"),
        sign(elsewhere, SIGNER),
        b"",
        b"\xff" * 99,
    ):
        (folder / "checkpoint").write_bytes(forged)
        assert "checkpoint: it is forged or altered" in texts(checked(folder))
    # Also what its own key never should have signed.
    (folder / "checkpoint").write_bytes(sign(longer, SIGNER))
    assert not checked(folder).holds
    (folder / "checkpoint").unlink()
    assert "checkpoint: it can't be read" in texts(checked(folder))


@pytest.mark.parametrize(
    "name", ["tile/entries/001", "tile/0/001", "tile/1/000.p/2", "tile/entries/002.p/88"]
)
def test_a_removed_file_is_named_and_the_rest_is_checked(made: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    (folder / name).unlink()
    [finding] = checked(folder).findings
    assert name in f"{finding.where} {finding.text}"


def test_an_altered_tile_of_an_older_checkpoint_is_named(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    for name in ("tile/entries/002.p/38", "tile/0/002.p/8"):
        file = folder / name
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert {f.where for f in checked(folder).findings} == {"tile/entries/002.p/38", "tile/0/002.p/8"}


def test_the_altered_entry_is_named(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    bundle = [entry(i) for i in range(256, 512)]
    bundle[7] = bundle[7].replace(b"x", b"y")
    (folder / "tile/entries/001").write_bytes(encode_bundle(bundle))
    report = checked(folder)
    assert [f.where for f in report.findings] == ["entry 263 (tile/entries/001)"]


def test_entries_after_the_checkpoint_are_the_writers_or_strangers(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    log = Writer(folder, SIGNER, quick)
    log.append([entry(i) for i in range(SIZE, SIZE + 200)])
    report = checked(folder)
    assert (report.holds, report.uncovered) == (True, 200)
    log.close()
    report = checked(folder)
    assert "200 after the checkpoint, and nobody writes the log" in texts(report)
    Writer(folder, SIGNER, quick).close()
    assert checked(folder).holds


def test_the_proofs_of_stored_tiles_hold(made: Path) -> None:
    from headrace.audit import tree

    tiles, root = TileFiles(made, SIZE), seen(made).root
    for index in (0, 255, 256, 511, 512, 599):
        proof = tree.inclusion_proof(index, SIZE, tiles.node)
        assert tree.includes(tree.leaf_hash(tiles.entry(index)), index, SIZE, proof, root)
    for old in (1, 256, 300, 512, 600):
        before = tree.root(old, tiles.node)
        assert tree.consistent(old, SIZE, tree.consistency_proof(old, SIZE, tiles.node), before, root)
