"""Whatever somebody does to a log is found: a flipped byte, entries removed, added, moved or cut off, a forged checkpoint. A
witness signs what grew and nothing else, over HTTP and in a folder; what it refuses is told as a sign of harm."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.audit import Report, Signer, Writer, verify
from headrace.audit.notes import WITNESS, Checkpoint, Note, opened, sign
from headrace.audit.tiles import encode_bundle
from headrace.audit.witness import HttpTransport, RefusedError, Witness, WitnessClient, WitnessError
from headrace.audit.witness.client import Transport
from headrace.audit.witness.decision import request
from headrace.audit.witness.server import server
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
KEY = Signer("witness.test/second", Ed25519PrivateKey.from_private_bytes(b"2" * 32), WITNESS)


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


def test_an_altered_tile_of_an_older_checkpoint_and_an_altered_entry_are_named(
    made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    for name in ("tile/entries/002.p/38", "tile/0/002.p/8"):
        file = folder / name
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert {f.where for f in checked(folder).findings} == {"tile/entries/002.p/38", "tile/0/002.p/8"}
    bundle = [entry(i) for i in range(256, 512)]
    bundle[7] = bundle[7].replace(b"x", b"y")
    (folder / "tile/entries/001").write_bytes(encode_bundle(bundle))
    assert "entry 263 (tile/entries/001)" in {f.where for f in checked(folder).findings}


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


def witness(folder: Path) -> Witness:
    return Witness(folder, KEY, [SIGNER.verifier], lambda: 1_800_000_000.5)


@pytest.fixture(params=["folder", "http"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    if request.param == "folder":
        yield witness(tmp_path / "second")
        return
    listening = server(("127.0.0.1", 0), witness(tmp_path / "second"), lambda text: None)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield HttpTransport(f"http://127.0.0.1:{listening.server_port}")
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def client(transport: Transport, folder: Path) -> WitnessClient:
    return WitnessClient("second", transport, KEY.verifier, folder, SIGNER.verifier)


def test_what_grew_is_signed(tmp_path: Path, transport: Transport) -> None:
    log = tmp_path / "log"
    asking = client(transport, log)
    filled(log, 0)
    assert asking.last() is None
    for size in (1, 256, 300, 777):
        filled(log, size)
        assert asking.submit()
        assert not asking.submit()  # nothing new
        seen = asking.last()
        assert seen is not None
        assert seen.size == size
    note = Note.parse((log / "cosigned/second").read_bytes())
    assert note.signed_by(KEY.verifier)
    assert note.signed_by(SIGNER.verifier)


def test_a_client_that_forgot_what_was_signed_learns_it(tmp_path: Path, transport: Transport) -> None:
    log = tmp_path / "log"
    filled(log, 300)
    assert client(transport, log).submit()
    shutil.rmtree(log / "cosigned")
    filled(log, 400)
    assert client(transport, log).submit()


def test_another_history_is_not_signed(tmp_path: Path, transport: Transport) -> None:
    log, other = tmp_path / "log", tmp_path / "other"
    filled(log, 300)
    client(transport, log).submit()
    for size, says in ((300, "written anew"), (301, "does not show"), (200, "truncated or put back")):
        shutil.rmtree(other, ignore_errors=True)
        filled(other, size, b" anew")
        with pytest.raises(WitnessError, match=says) as told:
            client(transport, other).submit()
        assert told.value.refused
    seen = client(transport, log).last()
    assert seen is not None
    assert seen.root == opened((log / "checkpoint").read_bytes(), SIGNER.verifier)[0].root


def test_a_witness_that_can_not_be_asked_is_no_sign_of_harm(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    for url in ("http://127.0.0.1:9", "file:///etc/passwd"):
        with pytest.raises(WitnessError, match="can't be asked") as told:
            client(HttpTransport(url), tmp_path).submit()
        assert not told.value.refused


def test_a_witness_with_another_key_is_not_believed(tmp_path: Path) -> None:
    filled(tmp_path / "log", 3)
    other = Signer(KEY.name, Ed25519PrivateKey.generate(), WITNESS)
    deceiving = Witness(tmp_path / "second", other, [SIGNER.verifier], lambda: 0.0)
    with pytest.raises(WitnessError, match="does not hold"):
        client(deceiving, tmp_path / "log").submit()
    with pytest.raises(WitnessError, match="not signed by its key"):
        client(deceiving, tmp_path / "log").last()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"old x\n\nnote", 400),
        (b"old 0\n!\n\n" + sign(Checkpoint(SIGNER.name, 3, b"r" * 32), SIGNER), 400),
        (request(5, [], sign(Checkpoint(SIGNER.name, 3, b"r" * 32), SIGNER)), 400),
        (request(0, [], sign(Checkpoint("elsewhere", 3, b"r" * 32), SIGNER)), 404),
        (request(0, [], sign(Checkpoint(SIGNER.name, 3, b"r" * 32), KEY)), 403),
        (request(1, [], sign(Checkpoint(SIGNER.name, 3, b"r" * 32), SIGNER)), 409),
        (request(0, [b"p" * 32], sign(Checkpoint(SIGNER.name, 3, b"r" * 32), SIGNER)), 422),
    ],
)
def test_refusals_have_the_status_that_the_protocol_names(
    tmp_path: Path, content: bytes, status: int
) -> None:
    with pytest.raises(RefusedError) as told:
        witness(tmp_path).add(content)
    assert told.value.status == status


@given(st.binary(max_size=300))
def test_nonsense_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with pytest.raises(RefusedError):
        witness(tmp_path_factory.getbasetemp() / "nonsense").add(b"old 0\n\n" + content)


def test_what_is_kept_and_damaged_stops_signing(tmp_path: Path) -> None:
    filled(tmp_path / "log", 3)
    second = witness(tmp_path / "second")
    client(second, tmp_path / "log").submit()
    [kept] = [p for p in (tmp_path / "second").iterdir() if not p.name.startswith(".")]
    kept.write_bytes(kept.read_bytes()[:-200])
    filled(tmp_path / "log", 4)
    with pytest.raises(WitnessError, match="restore it"):
        client(second, tmp_path / "log").submit()
