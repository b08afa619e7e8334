"""`headrace restart SERVICE --checkout FOLDER`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from headrace.cli.commands.lifecycle.restart import restart_processes
from headrace.cli.commands.models.options import user
from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import control, deployed
from headrace.hop.config import ConfigError
from headrace.state import deployments


def deploy(layout: Layout, service: str, checkout: Path) -> None:
    """Restarts it by the code of a checkout, or says why not. Raises ControlError."""
    try:
        _deploy(layout, service, checkout)
    except ConfigError as error:
        fail(str(error))


def _deploy(layout: Layout, service: str, checkout: Path) -> None:
    """Restarts it by the code of a checkout; where that fails, by the version before. Recorded in a journal of the audit.

    Raises ConfigError, OSError: nothing was done; ControlError: it failed.
    """
    before = deployed.of(layout, service)
    version = deployed.at(checkout, service)
    path, services = layout.deployment_log, {service: deployed.commit(checkout)}
    identity = deployments.begin(path, datetime.now(UTC), version.name, services, user())
    result, why = deployments.Result.FAILED, "it was cut off"
    try:
        try:
            deployed.put(layout, service, None if version.root.samefile(layout.root) else version)
            restart_processes(layout, service)
            result, why = deployments.Result.SUCCEEDED, ""
        except (control.ControlError, OSError) as error:
            why = str(error)
            deployed.put(layout, service, before)
            restart_processes(layout, service)
            result = deployments.Result.ROLLED_BACK
            raise control.ControlError(f"{service} runs the version before again: {why}") from None
    finally:
        deployments.end(path, datetime.now(UTC), identity, result, why)
