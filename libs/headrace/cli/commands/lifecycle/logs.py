"""`headrace logs SERVICE`: its output."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from headrace.cli.console import DEFAULT_HOME, Home, fail, place
from headrace.cli.installation import log_files


def logs(
    service: Annotated[str, typer.Argument(help="A service, `supervisor`, `access` or `prepare`.")],
    home: Home = DEFAULT_HOME,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Print the last lines of a service's log."""
    layout = place(home)
    path = layout.log(service)
    if not path.exists():
        known = ", ".join(sorted(log.stem for log in layout.logs.glob("*.log"))) or "none yet"
        fail(f"there is no log of {service!r}; there are: {known}")
    if follow:
        # -F: goes on after a rotation.
        raise typer.Exit(subprocess.call(["tail", "-n", str(lines), "-F", str(path)]))  # noqa: S603, S607 - a path of ours
    for line in log_files.tail(path, lines):
        print(line)
