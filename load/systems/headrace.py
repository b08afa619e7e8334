"""A running headrace to be measured: its shape, its settings, the cores it may use, and who may call it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from headrace.access import changes
from headrace.access.records import By
from headrace.access.specs import QuotaSpec, TenantSpec, new_key
from headrace.cli.commands.access.control import late_doors
from headrace.cli.installation import control_place, layout, secrets, services
from load.systems.processes import ROOT, children_of

HEADRACE = Path(sys.executable).parent / "headrace"
PIPELINES = ROOT / "deploy" / "pipelines"
Shape = Literal["apart", "together"]
# Finite, but never reached: the quota is not what is measured.
AMPLE = QuotaSpec(rows_per_s=10_000_000, rows_burst=10_000_000, concurrency=20_000)
_OFF = {"coalesce": {"max_rows": 1, "window": 4096}}
_UP_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Setup:
    """How to run it. `cpus`: cores of the servers, None: all. `tenants`: by name; each gets a key."""

    home: Path
    shape: Shape = "apart"
    cpus: frozenset[int] | None = None
    coalescing: bool = True
    # Processes of the ingress (together: of everything).
    workers: int = 1
    # Folder of Feast's feature_store.yaml, if not the home's own (SQLite).
    feast: Path | None = None
    tenants: Mapping[str, TenantSpec] = field(
        default_factory=lambda: {"load": TenantSpec(pipelines=("*",), limits=AMPLE)}
    )


@dataclass(frozen=True, slots=True)
class Running:
    """What runs. `target`: host:port of the ingress; `keys`: by tenant; `pids`: of all processes; `services`: the process
    of each by name, `executor.1` for a further one."""

    setup: Setup
    target: str
    keys: Mapping[str, str]
    pids: frozenset[int]
    services: Mapping[str, int]


@contextmanager
def headrace(setup: Setup) -> Iterator[Running]:
    """Starts it; everything is stopped and the settings are as before at the end."""
    home = setup.home
    command(home, "down")
    _write_settings(setup)
    try:
        _up(setup)
        keys = _set_tenants(setup)
        yield found_running(setup, keys)
    finally:
        command(home, "down")
        shutil.rmtree(home / "settings", ignore_errors=True)


def found_running(setup: Setup, keys: Mapping[str, str]) -> Running:
    """What runs now, of a home that is up."""
    found = status(setup.home)
    processes = {name: s["pid"] for name, s in found["services"].items()}
    return Running(
        setup, found["endpoints"]["grpc"], keys, frozenset(children_of(processes.values())), processes
    )


def status(home: Path) -> dict[str, Any]:
    """What `headrace status --json` says of a home. Raises SystemExit if nothing runs there."""
    found: dict[str, Any] = json.loads(command(home, "status", "--json"))
    return found


def prepare(home: Path) -> None:
    """Makes data, features and models of a home that has none, by a first start."""
    if not (home / "control.key").exists():
        command(home, "up")
        command(home, "down")


def write_documents(home: Path) -> None:
    """Makes the documents that are measured those of the home: the demo's, the same with the heavy model, a model alone."""
    folder = home / "pipelines"
    flights = yaml.safe_load((PIPELINES / "flights" / "pipeline.yaml").read_text())
    heavy = json.loads(json.dumps(flights)) | {"pipeline": "flights_heavy"}
    for stage in heavy["stages"]:
        if "model" in stage:
            stage["name"] = "flights_heavy"
    bare: dict[str, Any] = {
        "pipeline": "flights_light",
        "version": 1,
        "description": "The light model of flights by itself",
        "deadline_ms": 1000,
        "inputs": {"input": {"type": "float32", "shape": [24]}},
        "stages": [
            {
                "model": "light",
                "name": "flights_light",
                "inputs": {"input": "input"},
                "outputs": {"probabilities": {"column": "probabilities", "type": "float32", "shape": [2]}},
            }
        ],
        "outputs": ["probabilities"],
    }
    shutil.rmtree(folder, ignore_errors=True)
    for document in (flights, heavy, bare):
        made = folder / document["pipeline"] / "pipeline.yaml"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(yaml.safe_dump(dict(document), sort_keys=False))


def settings(setup: Setup) -> dict[str, dict[str, Any]]:
    """What is laid over the generated settings, by service."""
    own = {name: _uncoalesced(setup, name) for name in services.start_order()}
    if setup.feast:
        own["features"]["repo"] = str(setup.feast)
    door = own.pop(services.INGRESS)
    own = {name: values for name, values in own.items() if values}
    if setup.shape == "together":
        return {services.INGRESS: door | {"together": own}}
    return {services.INGRESS: door, **own}


def _uncoalesced(setup: Setup, caller: str) -> dict[str, Any]:
    """A service's clients without coalescing, if that is what is measured."""
    callees = [] if setup.coalescing else [c for c in services.callees(caller) if c not in services.ASIDE]
    return dict.fromkeys(callees, _OFF)


def _write_settings(setup: Setup) -> None:
    write_documents(setup.home)
    folder = setup.home / "settings"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for service, values in settings(setup).items():
        (folder / f"{service}.yaml").write_text(yaml.safe_dump(values))


def _set_tenants(setup: Setup) -> dict[str, str]:
    """Replaces the home's tenants by those of the setup, with a new key each. Those that every home has stay."""
    keys, by = {}, By("load")
    with control_place.records(layout.of(setup.home)) as records:
        for name in changes.read(records).tenants.keys() - {secrets.DEMO, secrets.OPERATOR, *setup.tenants}:
            changes.remove_tenant(records, name, by)
        for name, spec in setup.tenants.items():
            keys[name], key = new_key(created=datetime.now(UTC))
            changes.add_key(records, name, key, lambda _, spec=spec: spec, by)  # type: ignore[misc] # mypy knows no lambdas with defaults
        # Nothing is measured before every door has them.
        position = records.position()
        while late := late_doors(records, position):
            print(f"waiting for {'; '.join(late)}", file=sys.stderr)
    return keys


def _up(setup: Setup) -> None:
    pin = ["taskset", "-c", ",".join(map(str, sorted(setup.cpus)))] if setup.cpus else []
    together = ["--together"] if setup.shape == "together" else []
    command(setup.home, "up", *together, "--workers", str(setup.workers), before=pin)


def command(home: Path, *arguments: str, before: Sequence[str] = ()) -> str:
    """Runs `headrace` for a home, with `before` before it; returns what it prints. Raises SystemExit if it fails."""
    whole = [*before, str(HEADRACE), *arguments, "--home", str(home)]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, cwd=ROOT, timeout=_UP_TIMEOUT_S)
    if done.returncode != 0:
        raise SystemExit(f"headrace {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def configuration(setup: Setup) -> str:
    """The configuration that a run measures, in words; to be printed with its figures."""
    cores = os.cpu_count()
    on = f"core {', '.join(map(str, sorted(setup.cpus)))}" if setup.cpus else f"all {cores} cores"
    quotas = "; ".join(f"{name}: {_quota(spec.limits)}" for name, spec in list(setup.tenants.items())[:5])
    quotas += f"; and of {len(setup.tenants) - 5} more" if len(setup.tenants) > 5 else ""
    store = "Redis" if setup.feast else "SQLite"
    coalescing = "" if setup.coalescing else ", COALESCING OFF"
    workers = "" if setup.workers == 1 else f", {setup.workers} workers"
    return (
        f"headrace {revision()}, {setup.shape}{workers}{coalescing}, on {on} of {_processor()}; API keys; quotas {quotas}; "
        f"metrics and JSON logs on; 1 % of requests traced and logged; no answers kept; features in {store} by Feast; "
        f"Python {sys.version.split()[0]}"
    )


def _quota(limits: QuotaSpec) -> str:
    return f"{limits.rows_per_s:g} rows/s, {limits.concurrency} at once"


def machine() -> str:
    """What was measured on, in words."""
    return f"{os.cpu_count()} cores of {_processor()}, Python {sys.version.split()[0]}"


def revision() -> str:
    """Of the working tree."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stdout.strip() or "of no revision"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "an unknown processor"
