"""`headrace slo` as a person types it, without Prometheus."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.installation import layout, secrets
from headrace.cli.main import app
from tests.agreed import with_yes
from tests.libs.pipeline.pipeline_documents import changed


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*with_yes("slo", *arguments), "--home", str(home)])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    secrets.ensure(layout.of(tmp_path), datetime.now(UTC))
    (tmp_path / "settings").mkdir()
    return tmp_path


def test_rules_are_written_and_then_current(home: Path) -> None:
    outdated = run(home, "check")
    assert outdated.exit_code == 1
    assert "headrace slo rules" in outdated.stderr
    written = run(home, "rules")
    assert written.exit_code == 0, written.stderr
    assert "nobody is told" in written.stderr
    alertmanager = home / "monitoring/alertmanager.yml"
    # A webhook's URL may hold a token.
    assert stat.S_IMODE(alertmanager.stat().st_mode) == 0o600
    assert run(home, "check").exit_code == 0
    assert "HeadraceAvailabilityBurn" in run(home, "rules", "--print").stdout


def test_a_wrong_setting_leaves_the_files_as_they_were(home: Path) -> None:
    run(home, "rules")
    before = (home / "monitoring/rules/alerts.yml").read_text()
    (home / "settings/slo.yaml").write_text("min_bad: none\n")
    refused = run(home, "rules")
    assert refused.exit_code == 1
    assert "slo.yaml, line 1, min_bad" in refused.stderr
    assert (home / "monitoring/rules/alerts.yml").read_text() == before


def test_status_without_prometheus_says_which_setting(home: Path) -> None:
    (home / "settings/slo.yaml").write_text("prometheus: http://127.0.0.1:9\n")
    result = run(home, "status")
    assert result.exit_code == 1
    assert "settings/slo.yaml: prometheus" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--for", "soon"), "30m, 2h or 1d"), (("--alert", "Nothing"), "there is no such alert")],
)
def test_a_silence_that_cannot_be_meant_is_refused(home: Path, arguments: tuple[str, str], told: str) -> None:
    result = run(home, "silence", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_document_whose_promise_could_never_alert_does_not_pass_the_check(home: Path) -> None:
    document = home / "pipeline.yaml"
    document.write_text(
        changed(("deadline_ms: 250", "deadline_ms: 250\nobjectives: {latency: {p: 0.9, ms: 100}}"))
    )
    result = CliRunner().invoke(app, ["pipeline", "check", str(document), "--home", str(home)])
    assert result.exit_code == 1
    assert "objectives.latency.p: with 0.9" in result.stdout
