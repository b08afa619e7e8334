"""A witness signs what grew and nothing else, over HTTP and in a folder; what it refuses is told as a sign of harm."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from headrace.audit import Signer
from headrace.audit.notes import WITNESS, Checkpoint, Note, opened, sign
from headrace.audit.witness import HttpTransport, RefusedError, Witness, WitnessClient, WitnessError
from headrace.audit.witness.client import Transport
from headrace.audit.witness.decision import request
from headrace.audit.witness.server import server
from tests.libs.audit.audit_logs import SIGNER, filled

KEY = Signer("witness.test/second", Ed25519PrivateKey.from_private_bytes(b"2" * 32), WITNESS)


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
