"""`headrace encryption`, backups and restores of a sealed home, as a person or a script types it, on the files of a home."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from headrace.audit.journals import sealed_lines
from headrace.cli.backup.archive import BackupError, restore, write
from headrace.cli.installation import layout as layouts
from headrace.cli.installation.audit import audit_place
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.cli.installation.settings import files
from headrace.cli.main import app
from headrace.encryption import KeysProblem
from headrace.encryption.files import SealedFiles
from headrace.encryption.kms.file_kms import FileKms, make
from headrace.state import security
from services.monitoring.events.storage.files import sealed_files as events
from services.router.events.regulated.journal_file import sealed_files as journal
from tests.agreed import with_yes
from tests.libs.cli import released_home, test_cli_audit

LINE = b'{"time":"t","kind":"denied","client":"10.0.0.1","tenant":"acme"}\n'


def run(home: Layout, *arguments: object) -> Result:
    return released_home.run(home.home, *arguments)


def ok(home: Layout, *arguments: object) -> str:
    return released_home.ok(home.home, *arguments)


def refused(home: Layout, *arguments: object) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.output.split())


def collect(home: Layout) -> None:
    """What the monitoring service does, after the door wrote a line."""
    sealer = encryption_place.sealer(home)
    security.append(home.security_log, sealed_lines([LINE], sealer))
    test_cli_audit.collect(home.home, sealer)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "home.keys"


@pytest.fixture
def home(tmp_path: Path, keys: Path) -> Layout:
    """A home with sealed lines of a person."""
    at = layouts.of(tmp_path / "home")
    at.make_home()
    audit_place.ensure(at)
    at.events_salt.write_text("secret")
    at.tenants.write_text("tenants: {}\n")
    assert encryption_place.switch_on(at, keys) == (keys, True)
    collect(at)
    return at


def test_keys_are_made_once_closed_and_outside_of_the_home(home: Layout, keys: Path) -> None:
    assert keys.stat().st_mode & 0o777 == 0o600
    assert keys.parent.stat().st_mode & 0o777 == 0o700
    content = keys.read_bytes()
    assert encryption_place.switch_on(home, keys) == (keys, False)
    assert keys.read_bytes() == content
    assert not encryption_place.default_file(home).is_relative_to(home.home)
    result = run(home, "up", "--encrypt", "--keys", keys.with_name("other"))
    assert result.exit_code == 1
    assert "names other keys already" in " ".join(result.output.split())


def test_keys_in_the_home_are_refused(tmp_path: Path) -> None:
    at = layouts.of(tmp_path / "home")
    result = run(at, "up", "--encrypt", "--keys", at.home / "audit" / "keys")
    assert result.exit_code == 1
    assert "is in the home" in " ".join(result.output.split())
    assert encryption_place.settings(at) is None


def test_each_service_that_writes_such_files_gets_the_section(home: Layout, keys: Path) -> None:
    made = files(home)
    for service in ("router", "monitoring"):
        assert made[service]["encryption"]["file"] == str(keys)
    home.override("encryption").unlink()
    assert "encryption" not in files(home)["router"]


def test_a_plain_home_says_so(tmp_path: Path) -> None:
    at = layouts.of(tmp_path / "home")
    at.make_home()
    assert "plain" in ok(at, "encryption", "status")
    assert json.loads(ok(at, "encryption", "status", "--json"))["keys"] is None
    assert "nothing is sealed" in refused(at, "encryption", "rotate")


def test_rotated_rewrapped_and_retired(home: Layout, keys: Path) -> None:
    one = FileKms(keys).current()
    told = json.loads(ok(home, "encryption", "status", "--json"))
    assert (told["current"], told["stores"]["audit persons"]["versions"]) == (one, {one: 1})
    assert "is the current one" in refused(home, "encryption", "retire", one, "--yes")
    root = json.loads(ok(home, "audit", "verify", "--json"))["root"]
    ok(home, "encryption", "rotate")
    two = FileKms(keys).current()
    assert two != one
    assert "2 files need key" in refused(home, "encryption", "retire", one, "--yes")
    assert "→ headrace encryption rewrap" in re.sub(
        r"\S*headrace enc", "headrace enc", ok(home, "encryption", "status")
    )
    assert "2 files are rewrapped" in ok(home, "encryption", "rewrap")
    assert "0 files are rewrapped" in ok(home, "encryption", "rewrap")
    told = ok(home, "encryption", "retire", one, "--dry-run")
    assert (f"key {one} is destroyed" in told, FileKms(keys).versions()) == (True, [one, two])
    ok(home, "encryption", "retire", one, "--yes")
    assert FileKms(keys).versions() == [two]
    collect(home)
    told = json.loads(ok(home, "audit", "verify", "--json"))
    assert told["holds"]
    assert not told["locked"]
    assert told["root"] != root
    # What was done to keys is in the audit, and lines are read as before.
    acts = [json.loads(line)["event"] for line in home.audit.joinpath("audit.jsonl").read_text().splitlines()]
    assert {"rotated", "rewrapped", "retired"} <= set(acts)
    assert "10.0.0.1" in ok(home, "security")
    assert "10.0.0.1" in ok(home, "audit", "export", "--persons")


def test_lost_keys_are_told_as_locked_or_away(home: Layout, keys: Path, tmp_path: Path) -> None:
    hidden = keys.rename(tmp_path / "hidden")
    assert "can't be read" in refused(home, "encryption", "status")
    assert "can't be read" in refused(home, "encryption", "rewrap")
    away = run(home, "audit", "verify")
    assert (away.exit_code, "key management" in away.output) == (3, True), away.output
    home.override("encryption").unlink()
    encryption_place.switch_on(home, tmp_path / "others")
    told = run(home, "encryption", "status")
    assert told.exit_code == 1
    assert "not here" in told.output
    result = run(home, "audit", "verify", "--json")
    assert result.exit_code == 3
    found = json.loads(result.output)
    assert found["holds"]
    assert "is sealed with key" in found["locked"][0]["text"]
    assert "is sealed with key" in refused(home, "encryption", "rewrap")
    assert "is sealed with key" in refused(home, "security")
    hidden.rename(keys)


def test_status_tells_what_is_wrong_with_the_keys_and_what_to_do(
    home: Layout, keys: Path, tmp_path: Path
) -> None:
    def told() -> dict[str, Any] | None:
        result = run(home, "status", "--json")
        found: dict[str, Any] | None = json.loads(result.stdout)["keys_problem"]
        return found

    assert told() is None
    hidden = keys.rename(tmp_path / "hidden")
    assert told() == {
        "problem": "missing",
        "error": f"key management: {keys} can't be read (No such file or directory)",
        "remedy": KeysProblem.MISSING.remedy,
        "services": [],
    }
    result = run(home, "status")
    said = " ".join(result.stderr.split())
    assert f"{keys} can't be read" in said
    assert KeysProblem.MISSING.remedy in said
    assert f"up --home {home.home}" in said
    assert json.loads(run(home, "encryption", "status", "--json").stdout)["problem"] == "missing"
    make(keys, "headrace-of-another")
    found = told()
    assert found is not None
    assert found["problem"] == "other_keys"
    assert "headrace-of-another, not headrace-" in found["error"]
    hidden.replace(keys)
    assert told() is None
    home.override("encryption").write_text("file: [1]\n")
    found = told()
    assert found is not None
    assert found["problem"] == "settings"


def test_files_are_known_by_the_names_that_services_give_them(home: Layout) -> None:
    home.override("router").write_text(yaml.safe_dump({"recording": {"folder": str(home.home / "kept")}}))
    found = {store.name: store for store in encryption_place.stores(home)}
    assert found["events"] == events(home.events)
    assert found["journal"] == journal(home.journal)
    recorded = found["recordings"]
    assert isinstance(recorded, SealedFiles)
    assert recorded.folder == home.home / "kept"


def _saved(home: Layout, name: str, *, with_keys: bool = False) -> Path:
    target = home.home.parent / name
    write(home, target, made="now", version="1", told=lambda *_: None, with_keys=with_keys)
    return target


def test_a_backup_has_the_keys_only_if_asked_for(home: Layout, keys: Path, tmp_path: Path) -> None:
    assert (
        f"the keys are NOT in this file, and without them it can't be restored: keep a copy of {keys}"
        in ok(home, "backup", tmp_path / "b.tar")
    )
    secret = json.loads(keys.read_text())["versions"]["1"]["key"].encode()
    assert secret not in (tmp_path / "b.tar").read_bytes()
    assert "the keys are IN this file" in ok(home, "backup", tmp_path / "k.tar", "--with-keys")
    assert secret in (tmp_path / "k.tar").read_bytes()


def test_without_its_keys_nothing_is_restored(home: Layout, keys: Path, tmp_path: Path) -> None:
    source = _saved(home, "b.tar")
    hidden = keys.rename(tmp_path / "hidden")
    new = layouts.of(tmp_path / "new")
    told = refused(new, "restore", source)
    assert "its keys are not here" in told
    assert str(keys) in told
    assert not new.home.exists()
    (tmp_path / "other").mkdir()
    other = layouts.of(tmp_path / "other")
    encryption_place.switch_on(other, tmp_path / "others")
    with pytest.raises(BackupError, match="this backup needs the keys"):
        restore(source, new.home, lambda *_: None, tmp_path / "others")
    assert not new.home.exists()
    assert str(hidden) in ok(new, "restore", source, "--keys", hidden)
    restored = encryption_place.settings(new)
    assert restored is not None
    assert FileKms(hidden, restored.name).current().startswith(f"{restored.name}/")
    assert json.loads(ok(new, "audit", "verify", "--json"))["locked"] == []
    assert "10.0.0.1" in ok(new, "audit", "export", "--persons")


def test_keys_in_a_backup_go_where_they_were(home: Layout, keys: Path, tmp_path: Path) -> None:
    source = _saved(home, "k.tar", with_keys=True)
    content = keys.read_bytes()
    keys.unlink()
    new = layouts.of(tmp_path / "new")
    assert f"the keys of this backup are in {keys} now" in ok(new, "restore", source)
    assert (keys.read_bytes(), keys.stat().st_mode & 0o777) == (content, 0o600)
    assert not (new.home / "encryption.keys").exists()
    assert "10.0.0.1" in ok(new, "audit", "export", "--persons")


def test_a_backup_of_a_plain_home_has_no_keys(tmp_path: Path) -> None:
    at = layouts.of(tmp_path / "home")
    at.make_home()
    at.events_salt.write_text("secret")
    with pytest.raises(BackupError, match="there are no keys"):
        _saved(at, "b.tar", with_keys=True)
    source = _saved(at, "b.tar")
    with pytest.raises(BackupError, match="nothing in this backup is sealed"):
        restore(source, tmp_path / "new", lambda *_: None, tmp_path / "keys")


def test_keys_for_a_secret_are_made_and_rotated_without_a_home(tmp_path: Path) -> None:
    keys = tmp_path / "encryption.keys"
    for arguments, code in (
        (["new", keys], 0),
        (["new", keys], 1),
        (["rotate", "--keys", keys], 0),
        (["rotate", "--keys", tmp_path / "none"], 2),
    ):
        assert CliRunner().invoke(app, with_yes("encryption", *arguments)).exit_code == code
    assert len(FileKms(keys).versions()) == 2
    assert keys.stat().st_mode & 0o777 == 0o600
