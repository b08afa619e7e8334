"""`headrace up`: from nothing to a prediction."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from headrace.access.records import AccessError
from headrace.catalog.errors import RecordsError
from headrace.cli.commands.access.control import late_doors
from headrace.cli.commands.lifecycle.doctor import show
from headrace.cli.commands.models import prepared_models
from headrace.cli.commands.requests import prediction
from headrace.cli.console import DEFAULT_HOME, Home, again, command, err, fail, out, place
from headrace.cli.diagnosis import doctor_checks, earlier_homes
from headrace.cli.installation import (
    control_place,
    first_releases,
    pid_lock,
    ports,
    preparation,
    secrets,
    services,
)
from headrace.cli.installation.layout import MAX_INSTANCES, Layout, LayoutError
from headrace.cli.installation.settings import Installation, Shape
from headrace.cli.supervision import daemon
from headrace.cli.supervision.control import ControlError
from headrace.client import HeadraceError, PredictResult
from headrace.hop.config import ConfigError
from headrace.hop.errors import Code
from headrace.repository import RepositoryError

PIPELINE = "flights"
_READY_S = 120.0
_SEEN_S = 30.0


def up(
    home: Home = DEFAULT_HOME,
    together: Annotated[
        bool, typer.Option("--together", help="All services that requests pass in Envoy's one process.")
    ] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay; Ctrl-C stops everything.")] = False,
    workers: Annotated[
        int,
        typer.Option("--workers", min=1, max=MAX_INSTANCES, help="Processes of the ingress, on one port."),
    ] = 1,
    replicas: Annotated[
        list[str] | None,
        typer.Option("--replicas", metavar="SERVICE=N", help="Processes of another service; repeatable."),
    ] = None,
) -> None:
    """Prepare everything that is due, start the services, make a prediction, and leave them running."""
    layout, shape = place(home), _shape(together)
    counts = _counts(workers, replicas or [], shape)
    pid = pid_lock.holder(layout.lock)
    if pid is not None:
        _already(layout, shape, counts, pid)
        return
    try:
        earlier_homes.refuse(layout)
    except ConfigError as error:
        fail(str(error))
    _examine(layout)
    began = time.monotonic()
    try:
        with _progress() as progress:
            _secrets(layout, progress)
            _prepare(layout, progress)
            supervisor = _start(layout, shape, counts, progress, tie=foreground)
    except (preparation.PrepareError, daemon.StartError, ConfigError, LayoutError) as error:
        fail(str(error))
    installation = Installation(layout, shape, ports.load(layout.ports), counts)
    _first_prediction(layout, installation, time.monotonic() - began)
    if foreground:
        _stay(layout, supervisor)


def _shape(together: bool) -> Shape:
    return "together" if together else "apart"


def _counts(workers: int, replicas: Sequence[str], shape: Shape) -> dict[str, int]:
    """Processes of each service that has more than one."""
    *others, ingress = services.start_order()
    counts = {ingress: workers}
    for text in replicas:
        service, _, count = text.partition("=")
        if service not in others or service in counts:
            fail(f"--replicas {text}: name one of {', '.join(others)}, once ({ingress}: --workers)")
        if not count.isdecimal() or not 1 <= int(count) <= MAX_INSTANCES:
            fail(f"--replicas {text}: a number from 1 to {MAX_INSTANCES} must follow {service}=")
        if shape == "together":
            fail(f"--replicas {text}: together, services have no processes of their own; use --workers")
        counts[service] = int(count)
    return {service: count for service, count in counts.items() if count > 1}


def _already(layout: Layout, shape: Shape, counts: Mapping[str, int], pid: int) -> None:
    try:
        running = daemon.status(layout)
    except ControlError as error:
        fail(f"a supervisor (pid {pid}) runs in {layout.home}, but {error}; to begin anew: headrace down")
    if running["shape"] != shape:
        fail(
            f"headrace runs here already, in the shape {running['shape']!r}; for {shape!r} first: headrace down"
        )
    if running["counts"] != counts:
        fail("headrace runs here already, with other numbers of processes; first: headrace down")
    out.print(f"headrace is already running (supervisor pid {pid}); see: {again('status', layout.home)}")


def _examine(layout: Layout) -> None:
    findings = list(doctor_checks.examine(layout, datetime.now(UTC)))
    wrong = [finding for finding in findings if finding.level is not doctor_checks.Level.GOOD]
    if wrong:
        err.print(show(wrong))
    if any(finding.level is doctor_checks.Level.BAD for finding in wrong):
        fail(f"this machine can't run headrace yet; see above, then: {again('up', layout.home)}")


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeElapsedColumn(),
        console=out,
        # A pipe gets one line per step instead of bars.
        disable=not out.is_terminal,
    )


def _task(progress: Progress, text: str, total: int = 1) -> TaskID:
    if not out.is_terminal:
        out.print(f"· {text}", markup=False)
    return progress.add_task(text, total=total, note="")


def _prepare(layout: Layout, progress: Progress) -> None:
    tasks: dict[str, TaskID] = {}

    def report(step: str, done: int, total: int) -> None:
        if step not in tasks:
            for before in tasks.values():  # one step at a time: a new one ends those before
                progress.update(before, completed=progress.tasks[before].total)
            tasks[step] = _task(progress, step, total)
        progress.update(tasks[step], completed=done, total=total)

    preparation.prepare(layout, report)


def _secrets(layout: Layout, progress: Progress) -> None:
    task = _task(progress, "secrets")
    made = secrets.ensure(layout, datetime.now(UTC))
    layout.make()
    progress.update(task, completed=1, note=", ".join(made))


def _warn(text: str) -> None:
    err.print(text, style="yellow", markup=False, soft_wrap=True)


def _made(make: Callable[[Layout], str], layout: Layout) -> str:
    """What was made. What control refuses is said and stops nothing: all serve as before, and `recover` needs control to run."""
    try:
        return make(layout)
    except (AccessError, RecordsError, RepositoryError) as error:
        _warn(str(error))
        return "as before"


def _keys(layout: Layout) -> str:
    """Makes the keys of the demo and of operators where they are missing; returns what it made."""
    with control_place.records(layout) as records:
        made = secrets.ensure_keys(layout, records)
        if made:
            # The door refuses them until it has them.
            late_doors(records, records.position())
        return ", ".join(made)


def _models(layout: Layout) -> str:
    """Has control list the models that were prepared; returns which."""
    with control_place.records(layout) as records:
        return ", ".join(prepared_models.add(layout, records)) or "as before"


def _release(layout: Layout) -> str:
    """Makes live what was never released; returns what that was."""
    with closing(control_place.releases(layout)) as store:
        made = list(first_releases.make(layout, store, layout.documents))
    for outcome in made:
        if outcome.problem:
            _warn(f"pipeline {outcome.pipeline} is not live: {outcome.problem}")
    live = [f"{o.pipeline} version {o.version}" for o in made if not o.problem]
    return f"now live: {', '.join(live)}" if live else "as before"


def _start(
    layout: Layout, shape: Shape, counts: Mapping[str, int], progress: Progress, *, tie: bool
) -> subprocess.Popen[bytes]:
    names = Installation(layout, shape, {}, counts).instances
    tasks = {name: _task(progress, name) for name in names}
    supervisor = daemon.start_supervisor(layout, shape, counts, tie=tie)

    keys, models, released = (_task(progress, step) for step in ("keys", "models", "releases"))
    done = False

    def seen(services: Mapping[str, Any]) -> None:
        nonlocal done
        if not done and services.get("control", {}).get("state") == "ready":
            done = True
            progress.update(keys, completed=1, note=_made(_keys, layout))
            progress.update(models, completed=1, note=_made(_models, layout))
            progress.update(released, completed=1, note=_made(_release, layout))
        for name, service in services.items():
            ready = service["state"] == "ready"
            note = f"pid {service['pid']}" if ready else service["state"]
            progress.update(tasks[name], completed=int(ready), note=note)

    try:
        daemon.wait_ready(layout, supervisor, seen, _READY_S)
    except (daemon.StartError, ConfigError, OSError, KeyboardInterrupt) as error:
        daemon.abandon(supervisor)
        raise daemon.StartError(str(error) or "interrupted; everything is stopped again") from error
    return supervisor


def _first_prediction(layout: Layout, installation: Installation, took_s: float) -> None:
    row, key = prediction.sample(layout.requests), secrets.demo_key(layout)
    if row is None or key is None:
        fail(f"there are no rows in {layout.requests}; run: headrace down; rm -r {layout.home}; headrace up")
    try:
        answer = _predicted(installation.plaintext, key, row)
    except HeadraceError as error:
        fail(
            f"everything runs, but a prediction fails: {error}\nsee: headrace logs router; headrace logs ingress"
        )
    processes = len(installation.instances)
    out.print(f"\n[bold]{processes} process{'es' if processes > 1 else ''} ready in {took_s:.1f} s[/]\n")
    out.print(f"[bold]A prediction through Envoy at {installation.plaintext}[/]")
    out.print(prediction.draw(answer, row))
    at = "" if layout.home == DEFAULT_HOME.absolute() else f" --home {layout.home}"
    http = f"http://{installation.plaintext}"
    out.print("\n[bold]Next[/]")
    for line in (
        f"{command()} predict {PIPELINE}{at} --input hour=17",
        f"{command()} trace {answer.request_id}{at}",
        f"{command()} status{at}",
        f'curl -H "x-api-key: $(cat {layout.demo_key})" {http}/v2/models/{PIPELINE}',
        f"{command()} down{at}",
    ):
        out.print(f"  {line}", markup=False, soft_wrap=True)
    told = f"http://{installation.console} (sign in with the key in {layout.operator_key})"
    out.print("\n[bold]What changed, is it safe, roll back[/]")
    out.print(f"  {told}", markup=False, soft_wrap=True)


def _predicted(address: str, key: str, row: Mapping[str, Any]) -> PredictResult:
    """A prediction, tried again for a while: services may not have seen each other yet, or load the models of a first release."""
    deadline = time.monotonic() + _SEEN_S
    while True:
        try:
            return prediction.predict(address, key, PIPELINE, [row])
        except HeadraceError as error:
            if error.code not in (Code.UNAVAILABLE, Code.NOT_FOUND) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _stay(layout: Layout, supervisor: subprocess.Popen[bytes]) -> None:
    """Waits for the supervisor's end; SIGINT and SIGTERM ask for it."""

    def end(*_: object) -> None:
        supervisor.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    out.print("\nrunning; Ctrl-C stops everything")
    if supervisor.wait() != 0:
        fail(f"the supervisor ended with exit code {supervisor.returncode}; see {layout.log('supervisor')}")
