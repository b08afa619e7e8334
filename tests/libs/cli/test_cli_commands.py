"""The command as a person types it, without a running system; every command is there, and a call imports only what it needs.
`keys revoke --wait` returns once every door has it, and names those that are not known to have it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import Result

from headrace.access import changes
from headrace.access.records import KEY, TENANT, Access
from headrace.access.specs import NEW_LIMITS, hash_key
from headrace.api.control.v1.resources_pb2 import WatchRequest
from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords
from headrace.cli.commands.access import control as asked
from headrace.cli.installation import layout, secrets
from headrace.hop.client.settings import ClientRules
from headrace.resources.bootstrap import follow
from headrace.resources.manifest import parse
from tests.hop_control import ThreadControl
from tests.libs.cli.released_home import run
from tests.live_access import Control, home_control
from tests.services.ingress.test_ingress_directory import ANYTHING

PIPELINES = Path(__file__).parents[3] / "deploy" / "pipelines"
# Each takes longer to import than `headrace down` takes.
LARGE = ("pydantic", "numpy", "grpc", "google.protobuf", "yaml", "cryptography")


def refused(home: Path, *arguments: str) -> str:
    """What is said of it."""
    result = run(home, *arguments)
    assert result.exit_code == 1, result.output
    return " ".join(result.stderr.split())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    secrets.ensure(layout.of(tmp_path), datetime.now(UTC))
    return tmp_path


@dataclass(frozen=True, slots=True)
class Live:
    """A home whose control runs, and what that has."""

    home: Path
    control: Control

    def access(self) -> Access:
        return changes.read(self.control.records)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with home_control(layout.of(tmp_path)) as control:
        yield Live(tmp_path, control)


def test_what_needs_a_running_system_says_how_to_start_it(home: Path) -> None:
    for arguments in (("status",), ("restart", "router"), ("predict", "flights")):
        assert "headrace up" in refused(home, *arguments)
    assert "nothing was running" in run(home, "down").stdout


def test_status_for_programs_has_the_same_keys_when_nothing_runs(home: Path) -> None:
    result = run(home, "status", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert " ".join(told) == (
        "shape endpoints ca_file demo_key prometheus_targets services models_in_quarantine "
        "encryption_at_rest tenants_problem torn_lines what_is_live quarantined_pipelines"
    )
    assert told["services"] == {}


def test_a_key_is_shown_once_listed_by_id_and_revoked(live: Live) -> None:
    home = live.home
    created = run(home, "keys", "create", "acme", "--pipeline", "flights", "--days", "30")
    assert created.exit_code == 0
    key = created.stdout.strip()
    [stored] = live.access().keys["acme"].values()
    assert stored.hash == hash_key(key)
    assert stored.expires is not None

    listed = run(home, "keys", "list")
    assert stored.id in listed.stdout
    assert key not in listed.stdout

    assert run(home, "keys", "revoke", "acme", stored.id, "--wait").exit_code == 0
    assert live.access().keys["acme"] == {}
    assert "no key" in refused(home, "keys", "revoke", "acme", stored.id)
    assert "no tenant 'nobody'; there are: acme, demo, operator" in refused(home, "keys", "list", "nobody")


def test_a_key_can_not_do_more_than_its_tenant(live: Live) -> None:
    home = live.home
    assert run(home, "keys", "create", "ops", "--scope", "operate").exit_code == 0
    assert live.access().tenants["ops"].scopes == ("operate",)
    [line] = [line for line in run(home, "keys", "list").stdout.splitlines() if line.startswith("ops")]
    assert ("operate" in line, "predict" in line) == (True, False)
    assert run(home, "keys", "create", "acme", "--pipeline", "flights").exit_code == 0
    said = refused(home, "keys", "create", "acme", "--scope", "operate")
    assert "'acme' itself may not operate" in said
    assert run(home, "keys", "create", "acme", "--scope", "read").exit_code == 0
    said = refused(home, "keys", "create", "acme", "--scope", "everything")
    assert "there are: predict, read, outcomes, operate" in said
    assert {k.scopes for k in live.access().keys["acme"].values()} == {None, ("read",)}


@pytest.mark.parametrize(
    "command", ["keys list", "keys create x", "keys revoke x y", "tenants list", "tenants add x"]
)
def test_without_control_a_sentence_says_how_to_start_it(home: Path, command: str) -> None:
    assert "control says what is live: headrace up" in refused(home, *command.split())


def test_a_control_is_named_instead_of_the_homes(tmp_path: Path) -> None:
    away = layout.of(tmp_path / "away")
    own = away.override("releases")
    own.parent.mkdir(parents=True)
    with home_control(layout.of(tmp_path / "home")) as control:
        own.write_text(f"store: control:{control.target}")
        made = run(away.home, "tenants", "add", "acme")
        assert made.exit_code == 0, made.output
        assert "acme" in run(away.home, "tenants", "list").stdout
        own.write_text("store: control:host:1?key=x")
        assert "ca, certificate and key belong together" in refused(away.home, "tenants", "list")


def test_a_broken_record_is_shown_and_hides_no_other(live: Live, tmp_path: Path) -> None:
    broken = Write("tenant", "acme", b"{")
    control = live.control
    control.stop()
    records = CatalogRecords.open(str(live.home / "control.sqlite"), initialise=False)
    records.change(Change("tests", "tenant.set", "acme", [broken]))
    records.close()
    control.start()
    listed = run(live.home, "tenants", "list")
    assert "tenant acme: it is no JSON" in listed.stderr
    assert "demo" in listed.stdout
    assert "it is no JSON" in refused(live.home, "tenants", "set", "acme", "--max-rows", "1")
    assert "there are: demo, operator" in refused(live.home, "tenants", "show", "acme")


def test_the_pipelines_of_the_checkout_are_good(home: Path) -> None:
    result = run(home, "pipeline", "check")
    assert result.exit_code == 0, result.output
    assert "flights" in result.stdout


def test_a_wrong_document_is_shown_by_file_and_line(home: Path, tmp_path: Path) -> None:
    document = tmp_path / "pipeline.yaml"
    text = (PIPELINES / "flights" / "pipeline.yaml").read_text()
    document.write_text(text.replace("\nversion: ", "\nversion: many"))
    line = text.partition("\nversion: ")[0].count("\n") + 2
    result = run(home, "pipeline", "check", str(document))
    assert (result.exit_code, f"{document}:{line}: version:" in result.stdout) == (1, True)
    (home / "models").mkdir()
    result = run(home, "pipeline", "check")
    assert (result.exit_code, "there is no model 'flights_light'" in result.stdout) == (1, True)


def test_an_unknown_trace_says_how_to_get_one(home: Path) -> None:
    said = refused(home, "trace", "no-such-request")
    assert "no-such-request" in said
    assert "traceparent" in said


def test_an_absent_log_names_those_there_are(home: Path) -> None:
    place = layout.of(home)
    place.make()
    place.log("router").write_text("one\ntwo\n")
    assert run(home, "logs", "router", "-n", "1").stdout == "two\n"
    assert "there are: router" in refused(home, "logs", "routr")


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
    result = run(home, "up", *options)
    assert result.exit_code != 0
    assert said in result.stderr
    assert not layout.of(home).ports.exists()


def test_tenants_are_made_shown_changed_and_removed(live: Live) -> None:
    home = live.home
    made = run(home, "tenants", "add", "acme", "--pipeline", "flights", "--max-rows", "7")
    assert made.exit_code == 0, made.output
    acme = live.access().tenants["acme"]
    assert acme.limits == NEW_LIMITS.model_copy(update={"max_rows": 7})
    again = run(home, "tenants", "add", "acme")
    assert (again.exit_code, "exists" in again.stderr) == (1, True)

    options = ("--rows-per-s", "2.5", "--concurrency", "none", "--distinct-queries-per-day", "1000")
    changed = run(home, "tenants", "set", "acme", *options, "--scope", "read", "--requires-encryption")
    assert changed.exit_code == 0, changed.output
    acme = live.access().tenants["acme"]
    assert acme.requires_encryption
    limits = acme.limits
    assert (limits.rows_per_s, limits.concurrency, limits.max_rows) == (2.5, None, 7)
    assert (limits.distinct_queries_per_day, acme.scopes, acme.pipelines) == (1000, ("read",), ("flights",))

    shown = run(home, "tenants", "show", "acme").stdout
    assert "rows per second" in shown
    assert "2.5" in shown
    assert "requires encryption" in run(home, "tenants", "set", "acme", "--plain-storage").stdout
    assert not live.access().tenants["acme"].requires_encryption
    told = json.loads(run(home, "tenants", "show", "acme", "--json").stdout)
    assert (told["limits"]["rows_per_s"], told["distinct_queries_today"]) == (2.5, {})
    assert json.loads(run(home, "tenants", "list", "--json").stdout)["acme"]["scopes"] == ["read"]
    listed = run(home, "tenants", "list").stdout
    assert {line.split()[0] for line in listed.splitlines()[1:]} == {"acme", "demo", "operator"}

    assert run(home, "tenants", "remove", "acme", "--yes").exit_code == 0
    assert "acme" not in live.access().tenants


@pytest.mark.parametrize(
    ("tenant", "steps", "rows", "at_once"),
    [
        ("acme", ["--rows-per-s 2"], "2", "10"),
        ("demo", ["--rows-per-s 2"], "2", "4"),
        ("acme", ["--rows-per-s 2", "--rows-per-s 0.3", "--rows-per-s 7 --bytes-per-s 1048576"], "7", "35"),
        ("acme", ["--rows-per-s none", "--rows-per-s 2"], "2", "10"),
        # Given, with the rate or before it.
        ("acme", ["--rows-per-s 4 --rows-burst 70", "--rows-per-s 2"], "2", "70"),
        ("acme", ["--rows-burst 70", "--rows-per-s 2"], "2", "70"),
        ("acme", ["--rows-per-s 2 --rows-burst none", "--rows-per-s 3"], "3", "3"),
    ],
)
def test_a_burst_that_nobody_gave_follows_the_rate(
    live: Live, tenant: str, steps: list[str], rows: str, at_once: str
) -> None:
    home = live.home
    run(home, "tenants", "add", "acme")
    for options in steps:
        changed = run(home, "tenants", "set", tenant, *options.split())
        assert changed.exit_code == 0, changed.output
    found = dict(line.split("  ", 1) for line in changed.stdout.splitlines())
    found = {title: value.strip() for title, value in found.items()}
    assert (found["rows per second"], found["rows at once"]) == (rows, at_once)
    factor = 2 if tenant == "demo" else 4
    whole = [int(found[title].replace(",", "")) for title in ("bytes per second", "bytes at once")]
    assert whole[1] == factor * whole[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rows-per-s", "0"), "--rows-per-s: Input should be greater than 0"),
        (("--rows-per-s", "many"), "--rows-per-s: Input should be a valid number"),
        (("--distinct-queries-per-day", "1000001"), "less than or equal to 1000000"),
        (("--scope", "all"), "there are: predict, read, outcomes, operate"),
        ((), "say what to change"),
    ],
)
def test_a_limit_that_is_none_changes_nothing(live: Live, options: tuple[str, ...], said: str) -> None:
    before = live.access()
    assert said in refused(live.home, "tenants", "set", "demo", *options)
    assert live.access() == before


def test_security_events_are_shown_from_all_files_and_order_nothing_to_the_terminal(home: Path) -> None:
    assert "no such events" in run(home, "security").stderr
    path = layout.of(home).security_log
    path.parent.mkdir(exist_ok=True)

    def event(kind: str, **more: object) -> str:
        return json.dumps({"time": "2026-01-01T00:00:00.000Z", "kind": kind, **more}) + "\n"

    path.with_name(f"{path.name}.10").write_text(event("denied", tenant="first"))
    path.with_name(f"{path.name}.2").write_text("half a li\n" + event("unknown_key", client="10.0.0.9"))
    path.write_text(event("summary", events={"denied": 4}) + event("denied", tenant="[red]\x1b[2J"))
    shown = run(home, "security").stdout
    assert "\x1b" not in shown
    assert "[red]?[2J" in shown
    order = [shown.index(word) for word in ("first", "10.0.0.9", "denied:4", "[red]")]
    assert order == sorted(order)
    told = run(home, "security", "--json", "--kind", "denied", "-n", "2").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in told] == ["summary", "denied"]


@pytest.mark.parametrize("command", ["down", "restart", "logs"])
def test_a_small_command_does_without_large_packages(command: str) -> None:
    program = (
        "import sys; from headrace.cli import main; from typer.main import get_command; "
        f"get_command(main.app).commands[{command!r}]; print(*sorted({{*sys.modules}} & {{*{LARGE!r}}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def revoke(live: Live, key: str) -> Result:
    return run(live.home, "keys", "revoke", "acme", key.split("_")[1], "--wait")


def watch(live: Live, service: str, name: str) -> None:
    """A process that has what is live now, and is never heard of again."""
    control = ThreadControl(ClientRules(live.control.target))
    found = parse(control.watch(WatchRequest(watcher=name, service=service), 30).manifest)
    request = WatchRequest(watcher=name, service=service, ready=True)
    at = found.position
    request.have.epoch, request.have.number, request.have.head = at.epoch, at.number, at.head
    control.watch(request, 30)
    control.close()


def test_it_returns_once_the_doors_have_it_and_names_those_that_have_not(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = live.control.put({"acme": ANYTHING})["acme"]
    control = ThreadControl(ClientRules(live.control.target))
    public = [(live.control.folder / "control.pub").read_bytes()]
    door = follow("ingress", "door that follows", public, control, data=(KEY, TENANT))
    try:
        watch(live, "router", "a router")  # which has no keys
        done = revoke(live, first)
        assert (done.exit_code, door.view.snapshot.names(KEY).count(f"acme/{first.split('_')[1]}")) == (0, 0)

        second = live.control.put({"acme": ANYTHING})["acme"]
        watch(live, "ingress", "door that is gone")
        monkeypatch.setattr(asked, "_PATIENCE_S", 0.3)
        late = revoke(live, second)
        assert late.exit_code == 1
        assert "is revoked" in late.stdout
        said = " ".join(late.stderr.split())
        assert "not known to have it yet: door that is gone (last heard of" in said
        assert "door that follows" not in said
        assert changes.keys_of(live.control.records, "acme") == []
    finally:
        door.close()
