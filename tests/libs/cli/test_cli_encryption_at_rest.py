"""What encrypts at rest is said as far as it is known; what an earlier version sealed is refused before anything is changed."""

import hashlib
import json
import os
import tarfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.diagnosis import doctor_checks, earlier_homes, encryption_at_rest
from headrace.cli.diagnosis import readiness as checklists
from headrace.cli.diagnosis.doctor_checks import Level
from headrace.cli.diagnosis.readiness_attestations import Attestation, ReadinessSettings
from headrace.cli.installation import layout, ports, secrets, services, settings
from headrace.cli.installation.layout import Layout
from headrace.cli.main import app
from headrace.state.files.sealed_before import MAGIC
from tests.libs.cli.backup.test_cli_backup_archive import rewritten, saved

TODAY = date(2026, 11, 26)
ATTESTED = "encrypted storage attested by Ada, 2026-11-01, until 2027-04-30"
CRYPT = "the volume of HOME is encrypted (dm-crypt)"
LATE = "plain; encrypted storage attested by Ada, {}: it does not count today"
SEALED = "is of an earlier version of headrace that sealed its files"


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    found = layout.of(tmp_path / "home")
    found.make_home()
    secrets.ensure(found, datetime.now(UTC))
    found.override("readiness").parent.mkdir(exist_ok=True)
    return found


def said(day: date | None) -> ReadinessSettings:
    return ReadinessSettings(encryption=None if day is None else Attestation(by="Ada", date=day))


def device(block: Path, number: int, uuid: str | None, *below: str) -> None:
    place = block / f"{os.major(number)}:{os.minor(number)}"
    for slave in below:
        (place / "slaves" / slave / "dm").mkdir(parents=True)
        (place / "slaves" / slave / "dm" / "uuid").write_text(f"{slave}-1\n")
    if uuid is not None:
        (place / "dm").mkdir(parents=True, exist_ok=True)
        (place / "dm" / "uuid").write_text(f"{uuid}\n")


@pytest.mark.parametrize(
    ("uuid", "below", "encrypted"),
    [
        (None, (), False),
        ("CRYPT-LUKS2-5a", (), True),
        ("LVM-7f", (), False),
        ("LVM-7f", ("CRYPT-LUKS2",), True),
        # Of a volume on two disks, one is plain.
        ("LVM-7f", ("CRYPT-LUKS2", "LVM"), False),
    ],
)
def test_a_volume_is_encrypted_if_all_its_devices_are(
    uuid: str | None, below: tuple[str, ...], encrypted: bool, tmp_path: Path
) -> None:
    device(tmp_path / "block", tmp_path.stat().st_dev, uuid, *below)
    missing = tmp_path / "home" / "of" / "tomorrow"
    assert encryption_at_rest.has_encrypted_volume(missing, tmp_path / "block") is encrypted


@pytest.mark.parametrize(
    ("day", "crypt", "text", "level"),
    [
        (None, False, "plain", Level.BAD),
        (None, True, CRYPT, Level.BAD),
        (date(2026, 11, 1), False, ATTESTED, Level.GOOD),
        (date(2026, 11, 1), True, f"{ATTESTED}; {CRYPT}", Level.GOOD),
        (date(2025, 11, 1), False, LATE.format("2025-11-01, until 2026-04-30"), Level.BAD),
        (date(2026, 11, 27), False, LATE.format("2026-11-27, until 2027-05-26"), Level.BAD),
    ],
)
def test_readiness_wants_a_dated_attestation(
    day: date | None, crypt: bool, text: str, level: Level, home: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption_at_rest, "has_encrypted_volume", lambda _: crypt)
    evidence = checklists.Evidence(TODAY, said(day), {}, lambda: None)
    items = checklists.examine(home, evidence)
    [found] = [item.finding for item in items if item.finding.what == "encryption at rest"]
    assert (found.found, found.level) == (text.replace("HOME", str(home.home)), level)
    assert bool(found.fix) is (level is Level.BAD)


def test_doctor_and_status_say_it_and_the_door_takes_it_over(home: Layout) -> None:
    today = datetime.now(UTC).date()

    def status() -> str:
        result = CliRunner().invoke(app, ["status", "--json", "--home", str(home.home)])
        return str(json.loads(result.stdout)["encryption_at_rest"])

    def told() -> tuple[str, str, object]:
        [doctor] = [
            f for f in doctor_checks.examine(home, datetime.now(UTC)) if f.what == "encryption at rest"
        ]
        made = settings.Installation(home, "apart", ports.wanted(services.start_order()))
        door = settings.settings(made, "ingress", slot=0, listen=home.run / "x", run_dir=home.run / "y")
        return status(), doctor.found, door.get("encrypted_until")

    assert told()[2] is None
    assert told()[0] == told()[1]
    assert "attested" not in told()[0]
    home.override("readiness").write_text(f"valid_days: 30\nencryption: {{by: Ada, date: {today}}}")
    until = today + timedelta(days=30)
    assert told()[0] == told()[1]
    assert told()[0].startswith(f"encrypted storage attested by Ada, {today}, until {until}")
    assert told()[2] == str(until)
    home.override("readiness").write_text("encryption: {by: Ada}")
    assert "readiness.yaml, line 1, encryption.date" in status()


def entries(folder: Path) -> list[tuple[str, bytes]]:
    return sorted((str(p), p.read_bytes()) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("mark", ["settings", "security", "journal"])
def test_a_sealed_home_is_refused_before_anything_is_changed(mark: str, home: Layout) -> None:
    path = {
        "settings": home.override("encryption"),
        "security": home.security_log,
        "journal": home.journal / "1-2.journal",
    }[mark]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MAGIC)
    before, target = entries(home.home), home.home.parent / "b.tar"
    for arguments in (["up"], ["backup", str(target)]):
        result = CliRunner().invoke(app, [*arguments, "--home", str(home.home)])
        assert result.exit_code == 1
        assert f"{path} {SEALED}" in result.stderr.replace("\n", " ")
    [found] = [f for f in doctor_checks.examine(home, datetime.now(UTC)) if f.what == "encryption at rest"]
    assert (found.level, str(path) in found.found) == (Level.BAD, True)
    assert entries(home.home) == before
    assert not target.exists()


@pytest.mark.parametrize("mark", ["releases/flights.json", "models/flights/releases.json"])
def test_a_home_from_before_control_is_refused(mark: str, home: Layout) -> None:
    (home.home / mark).parent.mkdir(parents=True)
    (home.home / mark).write_text("{}")
    before = entries(home.home)
    result = CliRunner().invoke(app, ["up", "--home", str(home.home)])
    assert (result.exit_code, entries(home.home)) == (1, before)
    assert "earlier version" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize("name", [earlier_homes.KEYS, "settings/encryption.yaml"])
def test_a_backup_of_a_sealed_home_is_refused(name: str, home: Layout, tmp_path: Path) -> None:
    """As an earlier version would have written it: with the file, and its line in the list."""

    def add(members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        added = tarfile.TarInfo(name)
        listed = json.loads(members[-1][1])
        listed["files"][name] = [1, hashlib.sha256(b"x").hexdigest(), added.mode]
        members[-1] = members[-1][0], json.dumps(listed).encode()
        members.insert(0, (added, b"x"))

    changed, new = rewritten(saved(home), add), tmp_path / "new"
    result = CliRunner().invoke(app, ["restore", str(changed), "--yes", "--home", str(new)])
    assert result.exit_code == 1
    assert SEALED in result.stderr.replace("\n", " ")
    assert not new.exists()
