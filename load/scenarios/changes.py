"""How soon a change is live in each of many processes that follow control, what it weighs there, and what it costs them.

Each process is a real follower with the compiler of releases, started as services start it; the executors' models are not in it.
The installation has as many tenants, and as many pipelines that they share, as is asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from headrace.access.changes import add_key
from headrace.access.records import By
from headrace.access.specs import TenantSpec, new_key
from headrace.catalog.remote import RemoteRecords
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm
from headrace.releases.changes import Basis
from headrace.releases.of_records import RecordReleases
from headrace.resources.manifest import new_keys
from load.systems.processes import ROOT, cpu_seconds

_BY = By("load")
_DOCUMENT = (ROOT / "deploy" / "pipelines" / "flights" / "pipeline.yaml").read_text()
_START_S = 60.0


def run(arguments: argparse.Namespace) -> None:
    """Prints a line of JSON. Raises SystemExit."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        target, key = stack.enter_context(_control(Path(folder)))
        records = RemoteRecords(target, patience_s=_START_S)
        stack.callback(records.close)
        names = _filled(records, arguments.tenants, arguments.pipelines)
        command = [
            sys.executable,
            "-m",
            "load.systems.follower",
            target,
            str(key),
            str(Path(folder) / "followers"),
        ]
        followers = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
            for _ in range(arguments.processes)
        ]
        for follower in followers:
            stack.callback(follower.kill)
        newest = records.position().number
        start = [_until(follower, newest)[1] for follower in followers]
        before = cpu_seconds([f.pid for f in followers])
        heard = [_change(records, names[n % len(names)], followers) for n in range(arguments.changes)]
        seconds = [s for change in heard for s, _ in change]
        received = [end - begin for (_, end), begin in zip(heard[-1], start, strict=True)]
        used = cpu_seconds([f.pid for f in followers]) - before
        found = {
            "processes": arguments.processes,
            "tenants": arguments.tenants,
            "pipelines": arguments.pipelines,
            "changes": arguments.changes,
            "p50_s": round(statistics.median(seconds), 3),
            "p99_s": round(statistics.quantiles(seconds, n=100)[98], 3),
            "longest_s": round(max(seconds), 3),
            "kib_per_change_and_process": round(max(received) / arguments.changes / 1024, 1),
            "cpu_ms_per_change_and_process": round(used / arguments.changes / arguments.processes * 1000, 1),
        }
        print(json.dumps(found))


@contextmanager
def _control(folder: Path) -> Iterator[tuple[str, Path]]:
    """Its target, and the file with its public key."""
    private, public = new_keys()
    (folder / "key").write_bytes(private)
    (folder / "key.pub").write_bytes(public)
    target = f"unix:{folder / 'control.sock'}"
    settings = {
        "server": {"listen": target},
        "database": str(folder / "control.sqlite"),
        "initialise": True,
        "signing_key": str(folder / "key"),
    }
    (folder / "control.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "services.control", "--config", str(folder / "control.yaml")]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT) as control,
    ):
        try:
            yield target, folder / "key.pub"
        finally:
            control.kill()


def _filled(records: RemoteRecords, tenants: int, pipelines: int) -> list[str]:
    """The names of the pipelines, each with its first release."""
    names = [f"flights_{number}" for number in range(pipelines)]
    store = RecordReleases(records)
    for name in names:
        text = _DOCUMENT.replace("pipeline: flights", f"pipeline: {name}")
        pipeline = parse(text, name)
        arm = Arm(version=pipeline.version, revision=pipeline.revision, models={"flights_light": "1"})
        store.commit(Basis.of(store, name, "load").next(arms={LIVE: arm}), {pipeline.revision: text})
    spec = TenantSpec(pipelines=tuple(names))
    for number in range(tenants):
        key = new_key(created=datetime.now(UTC))[1]
        add_key(records, f"tenant{number}", key, lambda _: spec, _BY)
    return names


def _change(
    records: RemoteRecords, name: str, followers: list[subprocess.Popen[str]]
) -> list[tuple[float, int]]:
    """Seconds from the commit of another release until each process has it, and the bytes that it had received by then."""
    store = RecordReleases(records)
    release = Basis.of(store, name, "load").next("load")
    store.commit(release)
    committed = time.monotonic()
    number = records.position().number
    found = [_until(follower, number) for follower in followers]
    return [(at - committed, received) for at, received in found]


def _until(follower: subprocess.Popen[str], number: int) -> tuple[float, int]:
    """When it had that position (monotonic), and the bytes that it had received."""
    assert follower.stdout is not None, "it was asked for"
    for line in follower.stdout:
        at, found, received = line.split()
        if int(found) >= number:
            return float(at), int(received)
    raise SystemExit("a follower ended")
