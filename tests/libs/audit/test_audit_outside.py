"""Others' verifiers accept what we write: Sigstore's reads checkpoints and proofs, aics-tlog the tiles themselves."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# Private names, but the only verifier in the lock that is not ours; Sigstore's public one takes entries of Rekor alone.
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore.errors import VerificationError

from headrace.audit import Access, Payloads
from headrace.audit.reader import Proof, Reader
from tests.libs.audit.audit_logs import NOON, SIGNER, entry, filled

SIZE = 700


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    filled(folder, SIZE)
    return folder


def proof(log: Path, index: int, home: Path) -> Proof:
    access = Access(home / "audit.jsonl", lambda: NOON)
    payloads = Payloads(home / "persons", lambda: NOON)
    return Reader(log, SIGNER.verifier, access, payloads).prove("ann", ["operate"], index)


def believed(proof: Proof, entry: bytes) -> str:
    """The root, as Sigstore works it out and finds it in the checkpoint. Raises VerificationError."""
    checkpoint = SignedCheckpoint.from_text(proof.checkpoint.decode()).checkpoint
    inclusion = SimpleNamespace(
        log_index=proof.index,
        tree_size=checkpoint.log_size,
        hashes=list(proof.hashes),
        root_hash=bytes.fromhex(checkpoint.log_hash),
    )
    told: Any = SimpleNamespace(_inner=SimpleNamespace(inclusion_proof=inclusion, canonicalized_body=entry))
    verify_merkle_inclusion(told)
    return checkpoint.log_hash


@pytest.mark.parametrize("index", [0, 255, 256, 511, 512, SIZE - 1])
def test_sigstore_believes_a_proof_and_no_other_entry(log: Path, tmp_path: Path, index: int) -> None:
    shown = proof(log, index, tmp_path)
    assert shown.entry == entry(index)
    assert believed(shown, shown.entry)
    with pytest.raises(VerificationError):
        believed(shown, shown.entry + b" ")


def test_sigstore_reads_the_checkpoint_with_its_key(log: Path) -> None:
    signed = SignedCheckpoint.from_text((log / "checkpoint").read_text())
    assert (signed.checkpoint.origin, signed.checkpoint.log_size) == (SIGNER.name, SIZE)
    [signature] = signed.signed_note.signatures
    assert (signature.name, signature.sig_hash) == (SIGNER.name, SIGNER.verifier.key_id)


@pytest.mark.slow
def test_aics_tlog_reads_the_tiles(log: Path, tmp_path: Path) -> None:
    """`pipx install aics-tlog` (Python 3.12 or newer; 0.2.1 was seen to accept a log of 70,000 entries)."""
    tool = shutil.which("aics-tlog")
    if tool is None:
        pytest.skip("aics-tlog is not installed")
    at = ["--tiles", str(log), "--log-key", str(SIGNER.verifier)]
    for index in (0, 256, SIZE - 1):
        out = tmp_path / str(index)
        asked = [tool, "verify-inclusion", *at, "--index", str(index), "--entry-out", str(out)]
        told = json.loads(subprocess.run(asked, check=True, capture_output=True).stdout)
        assert (told["ok"], told["size"], out.read_bytes()) == (True, SIZE, entry(index))
    bundle = log / "tile/entries/001"
    before = bundle.read_bytes()
    bundle.write_bytes(before.replace(b"x", b"y", 1))
    try:
        asked = [tool, "verify-inclusion", *at, "--index", "256", "--entry-out", str(tmp_path / "altered")]
        assert subprocess.run(asked, check=False, capture_output=True).returncode != 0
    finally:
        bundle.write_bytes(before)
