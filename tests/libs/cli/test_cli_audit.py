"""`headrace audit`, as a person or a script types it, on the files of a home."""

import base64
import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from headrace.audit import tree
from headrace.audit.notes import WITNESS, Checkpoint, Note, Verifier, ensure_keys, opened, read_signer
from headrace.audit.settings import Audit
from headrace.audit.tiles import encode_bundle
from headrace.audit.witness import Witness
from headrace.audit.witness.server import server
from headrace.cli.installation import layout
from headrace.cli.installation.audit import audit_place
from headrace.cli.main import app
from headrace.repository import AccessLog
from headrace.state import chain
from tests.libs.audit.audit_authority import authority
from tests.libs.cli import released_home


def run(home: Path, *arguments: object) -> Result:
    return released_home.run(home, "audit", *arguments)


def ok(home: Path, *arguments: object) -> str:
    return released_home.ok(home, "audit", *arguments)


def collect(home: Path) -> None:
    """What the monitoring service does."""
    writer, collector = Audit(audit_place.settings(layout.of(home))).collecting()
    while collector.collect():
        pass
    collector.publish()
    writer.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two models' events, a security event and a log of them."""
    at = layout.of(tmp_path / "home")
    at.make_home()
    audit_place.ensure(at)
    log = AccessLog(at.model_log, "executor")
    log.record("added", "light", "1")
    log.record("loaded", "light", "1")
    at.security_log.write_text('{"time":"t","kind":"denied","client":"10.0.0.1","tenant":"acme"}\n')
    collect(at.home)
    return at.home


def test_a_log_that_holds_is_said_to(home: Path) -> None:
    said = ok(home, "verify")
    assert "the audit log holds: 3 entries (2 of models, 1 of security)" in said
    assert "no witness was asked" in said
    collect(home)
    told = json.loads(run(home, "verify", "--json").stdout)
    assert (told["holds"], told["entries"], told["sources"]) == (
        True,
        4,
        {"models": 2, "security": 1, "audit": 1},
    )


def test_each_reading_is_in_the_log(home: Path) -> None:
    ok(home, "verify")
    ok(home, "prove", 1)
    ok(home, "export", "--persons")
    found = list(chain.entries(home / "audit" / "audit.jsonl"))
    assert [e["event"] for e in found] == ["verified", "proved", "exported"]
    assert all("(headrace audit)" in e["who"] for e in found)


def test_reading_security_events_is_in_the_log_too(home: Path) -> None:
    def security() -> Result:
        return CliRunner().invoke(app, ["security", "--home", str(home)], catch_exceptions=False)

    assert "10.0.0.1" in security().output
    [found] = chain.entries(home / "audit" / "audit.jsonl")
    assert (found["event"], found["source"]) == ("read", "security")
    (home / "audit" / "audit.jsonl").unlink()
    (home / "audit" / "audit.jsonl").mkdir()
    result = security()
    assert result.exit_code == 1
    assert "10.0.0.1" not in result.output


def test_a_reading_that_can_not_be_recorded_is_refused(home: Path) -> None:
    (home / "audit" / "audit.jsonl").mkdir()
    result = run(home, "export")
    assert result.exit_code == 1
    assert "what can't be recorded is not done" in " ".join(result.output.split())
    assert "loaded" not in result.output


def test_an_altered_log_is_named_with_a_next_step(home: Path) -> None:
    bundle = home / "audit/log/tile/entries/000.p/3"
    bundle.write_bytes(encode_bundle([b"{}"] * 3))
    result = run(home, "verify")
    said = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "entry 0 (tile/entries/000.p/3): it is not the one whose hash is in the tile" in said
    assert "keep" in said
    assert "as evidence" in said
    assert "was altered" in run(home, "prove", 0).output


def test_a_proof_convinces_somebody_with_the_key_alone(home: Path) -> None:
    told = json.loads(ok(home, "prove", 2))
    checkpoint, _ = opened(told["checkpoint"].encode(), Verifier.parse((home / "audit.pub").read_text()))
    entry, proof = base64.b64decode(told["entry"]), [base64.b64decode(p) for p in told["proof"]]
    assert tree.includes(tree.leaf_hash(entry), 2, checkpoint.size, proof, checkpoint.root)
    assert "there is no entry 3; the checkpoint has entries 0 to 2" in " ".join(
        run(home, "prove", 3).output.split()
    )


def test_the_export_has_persons_only_if_asked(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ok(home, "export", "--out", out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(e["index"], e["source"], e["kind"]) for e in lines] == [
        (0, "models", "added"),
        (1, "models", "loaded"),
        (2, "security", "denied"),
    ]
    assert "10.0.0.1" not in out.read_text()
    ok(home, "export", "--out", out, "--persons", "--source", "security", "--from", 1)
    assert [json.loads(json.loads(line)["line"])["client"] for line in out.read_text().splitlines()] == [
        "10.0.0.1"
    ]


def test_a_person_is_erased_and_the_log_holds(home: Path, tmp_path: Path) -> None:
    assert "name a --tenant or a --client" in run(home, "erase", "--reason", "x").output
    assert "1 lines are erased" in ok(home, "erase", "--tenant", "acme", "--reason", "asked to")
    collect(home)
    assert "the audit log holds" in ok(home, "verify")
    out = tmp_path / "out.jsonl"
    ok(home, "export", "--out", out, "--persons", "--source", "security")
    assert "commitment" in out.read_text()


def test_a_witness_elsewhere_is_asked(home: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "w.key", tmp_path / "w.pub"
    ensure_keys(private, public, "headrace.test/second", WITNESS)
    witness = Witness(
        tmp_path / "second",
        read_signer(private),
        [Verifier.parse((home / "audit.pub").read_text())],
        lambda: 0,
    )
    with server(("127.0.0.1", 0), witness, lambda text: None) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        (home / "settings").mkdir()
        url = f"http://127.0.0.1:{listening.server_port}"
        (home / "settings/audit.yaml").write_text(
            yaml.safe_dump({"witnesses": {"second": {"url": url, "key": str(public)}}})
        )
        try:
            assert "has seen no checkpoint of this log yet" in ok(home, "verify")
            [client] = Audit(audit_place.settings(layout.of(home))).witnesses()
            client.submit()
            assert "seen by second" in ok(home, "verify")
            (home / "audit/log").rename(tmp_path / "hidden")  # and a new, shorter history
            (home / "audit/places.json").unlink()
            (home / "audit/audit.jsonl").unlink()
            (home / "audit/security.jsonl").unlink()
            collect(home)
            result = run(home, "verify")
        finally:
            listening.shutdown()
            thread.join()
    assert result.exit_code == 1
    assert "witness second: it saw 3 entries; the log has 2: it was truncated" in " ".join(
        result.output.split()
    )


def test_a_timestamp_says_since_when_entries_were_there(home: Path, tmp_path: Path) -> None:
    with authority(tmp_path / "tsa") as tsa:
        (home / "settings").mkdir()
        (home / "settings/audit.yaml").write_text(
            yaml.safe_dump({"witnesses": {"tsa": {"timestamp_url": tsa.url, "key": str(tsa.roots)}}})
        )
        assert "witness tsa has seen no checkpoint" in ok(home, "verify")
        [client] = Audit(audit_place.settings(layout.of(home))).witnesses()
        assert client.submit()
    said = ok(home, "verify")  # the authority itself is not needed for it
    assert f"tsa stamped 3 entries at {datetime.now(UTC):%Y}" in said
    assert "seen by tsa" in said
    [token] = (home / "audit/log/timestamps/tsa").glob("*.tsr")
    token.write_bytes(token.read_bytes()[:-1])
    result = run(home, "verify")
    assert result.exit_code == 1
    assert "put it aside as evidence" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("witnesses: {second: {key: a, url: http://x, timestamp_url: http://x}}", "it takes url, or"),
        ("witnesses: {second: {key: a, timestamp_url: x}}", "timestamp_url must begin with"),
        ("witnesses: {second: {key: a}}", "it takes url, or folder and signer"),
        ("witnesses: {second: {key: a, url: ftp://x}}", "url must begin with"),
        ("witnesses: {Big One: {key: a, url: http://x}}", "small letters"),
        ("persons_days: 0", "persons_days"),
        ("nothing: 1", "nothing"),
    ],
)
def test_wrong_settings_are_named(home: Path, text: str, says: str) -> None:
    (home / "settings").mkdir()
    (home / "settings/audit.yaml").write_text(text)
    result = run(home, "verify")
    assert result.exit_code == 1
    assert says in " ".join(result.output.split())
    assert "audit.yaml" in result.output.replace("\n", "")


def test_without_a_log_the_next_step_is_said(tmp_path: Path) -> None:
    assert "headrace up" in run(tmp_path, "verify").output


def test_the_key_is_made_once_and_is_a_secret(tmp_path: Path) -> None:
    at = layout.of(tmp_path)
    assert audit_place.ensure(at)
    assert not audit_place.ensure(at)
    assert at.audit_key.stat().st_mode & 0o077 == 0
    first = at.audit_public_key.read_text()
    at.audit_public_key.unlink()
    audit_place.ensure(at)
    assert at.audit_public_key.read_text() == first
    assert first.startswith("headrace.local/audit/")


def test_no_other_key_is_believed(home: Path, tmp_path: Path) -> None:
    ensure_keys(tmp_path / "k", tmp_path / "p", "elsewhere")
    assert run(home, "verify", "--trusted", tmp_path / "p").exit_code == 1
    (tmp_path / "p").write_text("nonsense")
    assert "no public key" in " ".join(run(home, "verify", "--trusted", tmp_path / "p").output.split())
    assert Checkpoint.parse(Note.parse((home / "audit/log/checkpoint").read_bytes()).text).size == 3
