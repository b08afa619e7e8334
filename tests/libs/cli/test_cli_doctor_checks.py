"""Diagnosis: every finding of the doctor that is not good says what to do; and what a new process alone has in quarantine."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.cli.diagnosis import doctor_checks
from headrace.cli.diagnosis.doctor_checks import Level
from headrace.cli.diagnosis.quarantined_models import newly_held
from headrace.cli.installation import certificates, layout


def test_this_machine_is_looked_at_without_a_home(tmp_path: Path) -> None:
    findings = list(doctor_checks.examine(layout.of(tmp_path / "none"), datetime.now(UTC)))
    assert ", ".join(f.what for f in findings) == (
        "Python, packages, libpython, lane, open files, disk, memory, ports, certificate, data, pipelines, "
        "settings, tenants, encryption at rest"
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
    findings = doctor_checks.examine(layout.of(tmp_path), datetime.now(UTC))
    [found] = [finding for finding in findings if finding.what == "lane"]
    assert found.level is level
    assert ("gcc" in found.fix) == (compiled is None)


def test_a_certificate_that_the_door_refuses_is_told(tmp_path: Path) -> None:
    place, now = layout.of(tmp_path), datetime.now(UTC)

    def found(at: datetime) -> tuple[Level, str]:
        (one,) = [f for f in doctor_checks.examine(place, at) if f.what == "certificate"]
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


def test_settings_that_cannot_be_read_are_named_with_file_and_line(tmp_path: Path) -> None:
    place = layout.of(tmp_path)
    place.override("executor").parent.mkdir()
    place.override("executor").write_text("models:\n  - [\n")
    [found] = [f for f in doctor_checks.examine(place, datetime.now(UTC)) if f.what == "settings"]
    assert found.level is Level.BAD
    assert f"{place.override('executor')}, line 3, near the key 'models'" in found.found
    place.override("executor").write_text("{}\n")
    place.override("exector").write_text("{}\n")
    [found] = [f for f in doctor_checks.examine(place, datetime.now(UTC)) if f.what == "settings"]
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
