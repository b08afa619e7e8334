"""The command as a person types it, without a running system."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import layout, secrets
from headrace.cli.main import app
from headrace.state import tenants
from tests.disks import fill, tiny_disk

PIPELINES = Path(__file__).parents[3] / "deploy" / "pipelines"


def run(*arguments: str, home: Path) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home)])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    secrets.ensure(layout.of(tmp_path), datetime.now(UTC))
    return tmp_path


def test_down_with_nothing_running_is_no_error(tmp_path: Path) -> None:
    result = run("down", home=tmp_path)
    assert result.exit_code == 0
    assert "nothing was running" in result.stdout


@pytest.mark.parametrize("arguments", [("status",), ("restart", "router"), ("predict", "flights")])
def test_what_needs_a_running_system_says_how_to_start_it(home: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, home=home)
    assert result.exit_code == 1
    assert "headrace up" in result.stderr


def test_status_for_programs_has_the_same_keys_when_nothing_runs(home: Path) -> None:
    result = run("status", "--json", home=home)
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert list(told) == ["shape", "endpoints", "ca_file", "demo_key", "prometheus_targets", "services"]
    assert told["services"] == {}


def test_on_a_full_disk_no_key_is_made_and_none_is_lost(tmp_path: Path) -> None:
    with tiny_disk(tmp_path):
        place = layout.of(tmp_path)
        secrets.ensure(place, datetime.now(UTC))
        before = place.tenants.read_bytes()
        filler = fill(tmp_path, "filler")
        refused = run("keys", "create", "demo", home=tmp_path)
        assert refused.exit_code == 1
        assert refused.stdout == ""
        assert refused.stderr == f"error: {place.tenants}: no space left on device\n"
        assert place.tenants.read_bytes() == before
        assert not list(tmp_path.glob(".tenants*"))
        filler.unlink()
        assert run("keys", "create", "demo", home=tmp_path).exit_code == 0
        assert len(tenants.load(place.tenants).tenant("demo").keys) == 2


def test_a_key_is_shown_once_listed_by_id_and_revoked(home: Path) -> None:
    created = run("keys", "create", "acme", "--pipeline", "flights", "--days", "30", home=home)
    assert created.exit_code == 0
    key = created.stdout.strip()
    place = layout.of(home)
    [kept] = tenants.load(place.tenants).tenant("acme").keys
    assert kept.hash == tenants.hash_key(key, tenants.read_pepper(place.pepper))
    assert kept.expires is not None
    assert key not in place.tenants.read_text()

    listed = run("keys", "list", home=home)
    assert kept.id in listed.stdout
    assert key not in listed.stdout

    assert run("keys", "revoke", "acme", kept.id, home=home).exit_code == 0
    assert tenants.load(place.tenants).tenant("acme").keys == ()
    again = run("keys", "revoke", "acme", kept.id, home=home)
    assert again.exit_code == 1
    assert "no key" in again.stderr


def test_a_key_for_operators_alone(home: Path) -> None:
    assert run("keys", "create", "ops", "--scope", "operate", home=home).exit_code == 0
    place = layout.of(home)
    tenant = tenants.load(place.tenants).tenant("ops")
    assert (tenant.scopes, tenant.keys[0].scopes) == (("operate",), ("operate",))
    [line] = [li for li in run("keys", "list", "ops", home=home).stdout.splitlines() if li.startswith("ops")]
    assert "operate" in line
    assert "predict" not in line


def test_a_key_can_not_do_more_than_its_tenant(home: Path) -> None:
    assert run("keys", "create", "acme", "--pipeline", "flights", home=home).exit_code == 0
    refused = run("keys", "create", "acme", "--scope", "operate", home=home)
    assert refused.exit_code == 1
    assert "'acme' itself may not operate" in " ".join(refused.stderr.split())
    assert run("keys", "create", "acme", "--scope", "read", home=home).exit_code == 0
    unknown = run("keys", "create", "acme", "--scope", "everything", home=home)
    assert unknown.exit_code == 1
    assert "there are: predict, read, operate" in " ".join(unknown.stderr.split())
    keys = tenants.load(layout.of(home).tenants).tenant("acme").keys
    assert [k.scopes for k in keys] == [None, ("read",)]


def test_keys_before_the_first_up_say_so(tmp_path: Path) -> None:
    result = run("keys", "create", "acme", home=tmp_path)
    assert result.exit_code == 1
    assert "headrace up" in result.stderr


def test_the_pipelines_of_the_checkout_are_good(home: Path) -> None:
    result = run("pipeline", "check", home=home)
    assert result.exit_code == 0, result.output
    assert "flights" in result.stdout


def test_a_wrong_document_is_shown_by_file_and_line(home: Path, tmp_path: Path) -> None:
    document = tmp_path / "broken" / "pipeline.yaml"
    document.parent.mkdir()
    lines = (PIPELINES / "flights" / "pipeline.yaml").read_text().splitlines()
    [line] = [number for number, text in enumerate(lines, 1) if text.startswith("version:")]
    lines[line - 1] = "version: many"
    document.write_text("\n".join(lines))
    result = run("pipeline", "check", str(document), home=home)
    assert result.exit_code == 1
    assert f"{document}:{line}: version:" in result.stdout


def test_a_model_that_is_not_there_is_a_problem_of_the_document(home: Path) -> None:
    (home / "models").mkdir()
    result = run("pipeline", "check", home=home)
    assert result.exit_code == 1
    assert "there is no model 'flights_light'" in result.stdout


def test_an_unknown_trace_says_how_to_get_one(home: Path) -> None:
    result = run("trace", "no-such-request", home=home)
    assert result.exit_code == 1
    assert "no-such-request" in result.stderr
    assert "traceparent" in result.stderr


def test_an_absent_log_names_those_there_are(home: Path) -> None:
    place = layout.of(home)
    place.make()
    place.log("router").write_text("one\ntwo\n")
    assert run("logs", "router", "-n", "1", home=home).stdout == "two\n"
    result = run("logs", "routr", home=home)
    assert result.exit_code == 1
    assert "there are: router" in result.stderr


def test_the_doctor_says_what_it_saw(home: Path) -> None:
    result = run("doctor", home=home)
    assert "certificate" in result.stdout
    assert "good until" in result.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--replicas", "model=2"], "name one of"),
        (["--replicas", "ingress=2"], "--workers"),
        (["--replicas", "executor=2", "--replicas", "executor=3"], "once"),
        (["--replicas", "executor"], "a number from 1"),
        (["--replicas", "executor=65"], "a number from 1"),
        (["--replicas", "executor=2", "--together"], "use --workers"),
        (["--workers", "0"], "workers"),
    ],
)
def test_numbers_of_processes_that_cannot_be_are_refused_before_anything_starts(
    home: Path, options: list[str], said: str
) -> None:
    result = run("up", *options, home=home)
    assert result.exit_code != 0
    assert said in result.stderr
    assert not layout.of(home).ports.exists()
