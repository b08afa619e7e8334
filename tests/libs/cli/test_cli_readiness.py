"""What `headrace doctor`, `readiness` and `status` say of homes that lack things, of what encrypts at rest, of quarantine and of
doors that can't share limits; an earlier version's home is refused before anything is changed."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headrace.cli.diagnosis import doctor_checks, encryption_at_rest, live_state, quarantined_models
from headrace.cli.diagnosis import readiness as checklists
from headrace.cli.diagnosis.doctor_checks import Finding, Level
from headrace.cli.diagnosis.quarantined_models import newly_held
from headrace.cli.diagnosis.readiness_attestations import Attestation, ReadinessSettings
from headrace.cli.installation import certificates, layout, ports, secrets, services, settings
from headrace.cli.installation.layout import Layout
from headrace.repository.records import Records
from services.ingress.sharing.metrics import ShareMetrics
from tests.libs.cli.released_home import run
from tests.web_server import web_server

TODAY = date(2026, 11, 26)
PAGES = {service: f"{series}{{}} 1\n" for service, series in checklists.SLI_SERIES.items()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    secrets.ensure(layout.of(tmp_path), datetime.now(UTC))
    return tmp_path


def found(
    home: Path,
    said: ReadinessSettings | None = None,
    metrics: dict[str, str] = PAGES,
    parity: str | None = "",
) -> dict[str, Finding]:
    evidence = checklists.Evidence(TODAY, said or ReadinessSettings(), metrics, lambda: parity)
    return {item.finding.what: item.finding for item in checklists.examine(layout.of(home), evidence)}


def diagnosed(place: Layout, what: str, now: datetime | None = None) -> Finding:
    """The one finding of the doctor about this."""
    [one] = [f for f in doctor_checks.examine(place, now or datetime.now(UTC)) if f.what == what]
    return one


def test_both_checklists_have_all_their_lines(home: Path) -> None:
    assert ", ".join(found(home)) == (
        "metrics of the promises, models signed and versioned, online features as offline, canary and rollback, "
        "security scans, promises and alerts, runbooks, on call, cost and capacity plan, retention of telemetry, "
        "encryption at rest, access control, audit"
    )


def test_a_service_without_its_series_is_named(home: Path) -> None:
    assert found(home)["metrics of the promises"].level is Level.GOOD
    lacking = found(home, metrics={**PAGES, "router": ""})["metrics of the promises"]
    assert lacking.level is Level.BAD
    assert "router: headrace_router_rows_total" in lacking.found
    together = {"ingress": "".join(PAGES.values())}
    assert found(home, metrics=together)["metrics of the promises"].level is Level.GOOD
    assert found(home, metrics={})["metrics of the promises"].level is Level.WARN


def test_what_people_said_counts_for_a_while(home: Path) -> None:
    for day, level in (
        (date(2026, 11, 1), Level.GOOD),
        (date(2025, 11, 1), Level.BAD),
        (date(2027, 1, 1), Level.BAD),
    ):
        said = ReadinessSettings(on_call=Attestation(by="Ada", date=day))
        assert found(home, said)["on call"].level is level
    assert found(home)["on call"].level is Level.BAD


def test_online_features_are_compared_and_the_home_is_closed(home: Path) -> None:
    for parity, level in (("", Level.GOOD), ("differ: a", Level.BAD), (None, Level.WARN)):
        assert found(home, parity=parity)["online features as offline"].level is level
    home.chmod(0o755)
    assert "open to other users" in found(home)["access control"].found


def test_alerts_that_nobody_receives_are_missing(home: Path) -> None:
    (home / "settings").mkdir()
    assert found(home)["promises and alerts"].found == "nobody is told of alerts"
    (home / "settings/slo.yaml").write_text("webhooks: {page: 'http://127.0.0.1:1/'}")
    # The document of moderation promises nothing itself.
    assert found(home)["promises and alerts"].level is Level.WARN


def test_the_command_says_what_is_missing_and_ends_with_1(home: Path) -> None:
    result = run(home, "readiness", "--json", "--no-features")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert {line["checklist"] for line in told} == {checklists.PRE_PRODUCTION, checklists.PRODUCTION}
    assert all(line["fix"] for line in told if line["level"] == "bad")


def test_a_wrong_attestation_names_file_line_and_key(home: Path) -> None:
    (home / "settings").mkdir()
    (home / "settings/readiness.yaml").write_text("on_call: {by: Ada, date: yesterday}")
    result = run(home, "readiness")
    assert result.exit_code == 1
    assert "readiness.yaml, line 1, on_call.date" in result.stderr


@pytest.fixture
def door() -> Iterator[tuple[ShareMetrics, str]]:
    registry = CollectorRegistry()

    with web_server(lambda _: (200, {}, generate_latest(registry))) as address:
        # As the supervisor tells it.
        yield ShareMetrics(registry), f"{address}/metrics"


def test_a_door_that_counts_alone_is_told(door: tuple[ShareMetrics, str]) -> None:
    metrics, place = door
    services: dict[str, dict[str, str | None]] = {
        "ingress": {"metrics": place},
        "ingress.1": {"metrics": "http://127.0.0.1:1/metrics"},
        "router": {"metrics": None},
    }
    metrics.doors.set(3)
    metrics.alone.set(0)
    assert "limits" not in " ".join(live_state.read(services).problems)
    metrics.alone.set(1)
    told = live_state.read(services).problems[-1]
    assert "1 of 2 doors" in told
    assert "1/3 of each limit" in told


ATTESTED = "encrypted storage attested by Ada, 2026-11-01, until 2027-04-30"
CRYPT = "the volume of HOME is encrypted (dm-crypt)"
LATE = "plain; encrypted storage attested by Ada, {}: it does not count today"


@pytest.fixture
def place(home: Path) -> Layout:
    found = layout.of(home)
    found.override("readiness").parent.mkdir()
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
    day: date | None, crypt: bool, text: str, level: Level, place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption_at_rest, "has_encrypted_volume", lambda _: crypt)
    told = found(place.home, said(day), {}, None)["encryption at rest"]
    assert (told.found, told.level) == (text.replace("HOME", str(place.home)), level)
    assert bool(told.fix) is (level is Level.BAD)


def test_status_says_it_and_the_door_takes_it_over(place: Layout) -> None:
    today = datetime.now(UTC).date()

    def status() -> str:
        result = run(place.home, "status", "--json")
        return str(json.loads(result.stdout)["encryption_at_rest"])

    def told() -> tuple[str, object]:
        made = settings.Installation(place, "apart", ports.wanted(services.start_order()))
        door = settings.settings(made, "ingress", slot=0, listen=place.run / "x", run_dir=place.run / "y")
        return status(), door.get("encrypted_until")

    assert told()[1] is None
    assert "attested" not in told()[0]
    place.override("readiness").write_text(f"valid_days: 30\nencryption: {{by: Ada, date: {today}}}")
    until = today + timedelta(days=30)
    assert told()[0].startswith(f"encrypted storage attested by Ada, {today}, until {until}")
    assert told()[1] == str(until)
    place.override("readiness").write_text("encryption: {by: Ada}")
    assert "readiness.yaml, line 1, encryption.date" in status()


def entries(folder: Path) -> list[tuple[str, bytes]]:
    return sorted((str(p), p.read_bytes()) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("mark", ["releases/flights.json", "models/flights/releases.json"])
def test_a_home_from_before_control_is_refused(mark: str, place: Layout) -> None:
    (place.home / mark).parent.mkdir(parents=True)
    (place.home / mark).write_text("{}")
    before = entries(place.home)
    result = run(place.home, "up")
    assert (result.exit_code, entries(place.home)) == (1, before)
    assert "earlier version" in result.stderr.replace("\n", " ")


def test_this_machine_is_looked_at_without_a_home(tmp_path: Path) -> None:
    findings = list(doctor_checks.examine(layout.of(tmp_path / "none"), datetime.now(UTC)))
    assert ", ".join(f.what for f in findings) == (
        "Python, packages, libpython, lane, open files, disk, memory, ports, certificate, data, settings"
    )
    assert all(f.fix for f in findings if f.level is not Level.GOOD)
    assert not (tmp_path / "none").exists()


def test_an_old_python_is_refused_and_the_new_one_named() -> None:
    level, _, fix = doctor_checks.python((3, 10, 4))
    assert level is Level.BAD
    assert "3.11" in fix


@pytest.mark.parametrize(("compiled", "level"), [(Path("lane.so"), Level.GOOD), (None, Level.WARN)])
def test_it_says_whether_there_is_a_lane(
    compiled: Path | None, level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingress.lane.library.compiled", lambda: compiled)
    found = diagnosed(layout.of(tmp_path), "lane")
    assert found.level is level
    assert ("gcc" in found.fix) == (compiled is None)


def test_a_certificate_that_the_door_refuses_is_told(tmp_path: Path) -> None:
    place, now = layout.of(tmp_path), datetime.now(UTC)

    def found(at: datetime) -> tuple[Level, str]:
        one = diagnosed(place, "certificate", at)
        return one.level, one.found

    certificates.ensure(place.tls, now)
    assert found(now)[0] is Level.GOOD
    assert found(now + timedelta(days=80))[0] is Level.WARN
    assert found(now + timedelta(days=91)) == (
        Level.BAD,
        f"the door refuses it: the certificate has expired, on {now + timedelta(days=90):%Y-%m-%d %H:%M} UTC",
    )
    certificates.ensure(tmp_path / "other", now)
    (tmp_path / "other" / "server.key").replace(place.tls / "server.key")
    assert found(now) == (Level.BAD, "the door refuses it: the key does not belong to the certificate")


def test_a_model_in_quarantine_is_named(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    Records(place.executor_state).quarantine("light:10", {"problem": "it crashed", "remedy": "mend it"})
    [model] = quarantined_models.models(place)
    assert quarantined_models.sentence(model) == "model light version 10 is in quarantine: it crashed"
    assert model["remedy"] == "mend it"


def test_settings_that_cannot_be_read_are_named_with_file_and_line(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.override("executor").parent.mkdir()
    place.override("executor").write_text("models:\n  - [\n")
    found = diagnosed(place, "settings")
    assert found.level is Level.BAD
    assert f"{place.override('executor')}, line 3, near the key 'models'" in found.found
    place.override("executor").write_text("{}\n")
    place.override("exector").write_text("{}\n")
    found = diagnosed(place, "settings")
    assert found.level is Level.WARN
    assert "exector.yaml" in found.found


PAGE = b"""# TYPE headrace_executor_quarantined gauge
headrace_executor_quarantined{model="a",version="1"} 1.0
headrace_executor_quarantined{model="b",version="2"} 1.0
headrace_executor_quarantined{model="c",version="3"} 0.0
"""


def test_what_is_new_is_named() -> None:
    assert newly_held(b"# nothing\n", PAGE) == ["a:1", "b:2"]
    assert newly_held(PAGE.replace(b'model="b"', b'model="d"'), PAGE) == ["b:2"]
    assert newly_held(PAGE, PAGE) == newly_held(PAGE, b"# nothing\n") == []
    # Of one that does not answer nothing is known.
    assert newly_held(b"", PAGE) == []
