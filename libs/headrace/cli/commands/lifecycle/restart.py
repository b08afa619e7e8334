"""`headrace restart SERVICE`: without a failed request; by the code of another checkout, if one is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.console import DEFAULT_HOME, Home, again, fail, out, place
from headrace.cli.installation.layout import Layout, service_of
from headrace.cli.supervision import control, daemon

# Start, readiness and drain each have bounds of their own in the supervisor; this is beyond their sum.
_TIMEOUT_S = 300.0


def restart(
    service: Annotated[str, typer.Argument(help="Its name, or that of one of its processes (executor.2).")],
    checkout: Annotated[
        Path | None,
        typer.Option(
            "--checkout",
            help="Run the code of this checkout from now on, in all processes of the service; that of the supervisor: as before.",
            file_okay=False,
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Start a new process of a service, wait until it is ready, then let the old one finish and end; so for each."""
    layout = place(home)
    try:
        if not daemon.running(layout):
            fail(f"headrace is not running here; start it: {again('up', layout.home)}")
        if checkout is None:
            _restart(layout, service)
        else:
            _deploy(layout, service_of(service), checkout)
    except control.ControlError as error:
        fail(str(error))


def _restart(layout: Layout, service: str) -> None:
    """Raises ControlError."""
    running = daemon.status(layout)["services"]
    # The first bears the name of the service, which means all of them; SERVICE.1 is that one alone.
    names = [n for n in running if service_of(n) == service] or [service.removesuffix(".1")]
    for name in names:
        before = running.get(name, {}).get("pid")
        after = control.ask(layout.supervisor, {"do": "restart", "service": name}, _TIMEOUT_S)
        out.print(f"{name} restarted: pid {before} → {after['pid']}")


def _deploy(layout: Layout, service: str, checkout: Path) -> None:
    """Restarts it by the code of a checkout; where that fails, by the version before. Recorded in a journal of the audit.

    Raises OSError: nothing was done; ControlError: it failed.
    """
    # Here, as they take longer to import than a plain restart's other modules.
    from headrace.cli.commands.models.options import user
    from headrace.cli.supervision import deployed
    from headrace.hop.config import ConfigError
    from headrace.state import deployments
    from headrace.state.deployments import Result

    try:
        before, version = deployed.of(layout, service), deployed.at(checkout, service)
    except ConfigError as error:
        fail(str(error))
    path, services = layout.deployment_log, {service: deployed.commit(checkout)}
    identity = deployments.begin(path, datetime.now(UTC), version.name, services, user())
    result, why = Result.FAILED, "it was cut off"
    try:
        try:
            deployed.put(layout, service, None if version.root.samefile(layout.root) else version)
            _restart(layout, service)
            result, why = Result.SUCCEEDED, ""
        except (control.ControlError, OSError) as error:
            why = str(error)
            deployed.put(layout, service, before)
            _restart(layout, service)
            result = Result.ROLLED_BACK
            raise control.ControlError(f"{service} runs the version before again: {why}") from None
    finally:
        deployments.end(path, datetime.now(UTC), identity, result, why)
