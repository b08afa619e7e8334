"""`headrace restart SERVICE`: without a failed request; by the code of another checkout, if one is named."""

from __future__ import annotations

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
            restart_processes(layout, service)
        else:
            # Late: few restarts need what it loads.
            from headrace.cli.commands.lifecycle.from_checkout import deploy

            deploy(layout, service_of(service), checkout)
    except control.ControlError as error:
        fail(str(error))


def restart_processes(layout: Layout, service: str) -> None:
    """Raises ControlError."""
    running = daemon.status(layout)["services"]
    # The first bears the name of the service, which means all of them; SERVICE.1 is that one alone.
    names = [n for n in running if service_of(n) == service] or [service.removesuffix(".1")]
    for name in names:
        before = running.get(name, {}).get("pid")
        after = control.ask(layout.supervisor, {"do": "restart", "service": name}, _TIMEOUT_S)
        out.print(f"{name} restarted: pid {before} → {after['pid']}")
