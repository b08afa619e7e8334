"""`headrace deliver deploy VERSION`: one service at a time, with a look after each, and back at the first bad one."""

from __future__ import annotations

import getpass
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.commands.delivery.options import DEFAULT_REGISTRY, RegistryFolder, refusing
from headrace.cli.console import DEFAULT_HOME, Home, fail, out, place
from headrace.cli.delivery.home import Home as HomeTarget
from headrace.cli.installation import pid_lock, services
from headrace.cli.installation.layout import Layout
from headrace.delivery import manifest
from headrace.delivery.deployer import Deployer, Outcome, Rules, Target
from headrace.delivery.errors import DeliveryError
from headrace.delivery.kubernetes import Cluster
from headrace.delivery.oci import Registry
from headrace.delivery.records import Records, Result

_RULES = Rules()


@refusing
def deploy(
    version: Annotated[str, typer.Argument(help="A version that was published.")],
    registry: RegistryFolder = DEFAULT_REGISTRY,
    service: Annotated[list[str] | None, typer.Option("--service", help="Only this one; repeatable.")] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--kubernetes",
            help="Folder of the Kustomize overlay. Default: this home.",
            file_okay=False,
        ),
    ] = None,
    base: Annotated[Path, typer.Option("--base", help="The manifests under the overlay.")] = Path(
        "deploy/kubernetes/base"
    ),
    images: Annotated[
        str, typer.Option("--images", help="Where the cluster pulls images: REGISTRY/PATH.")
    ] = "localhost",
    kubectl: Annotated[
        str, typer.Option("--kubectl", help="The command with its options; empty: write the overlay only.")
    ] = "kubectl",
    trusted: Annotated[
        list[Path] | None,
        typer.Option("--trusted", help="Public key of who publishes; repeatable. Default: the home's."),
    ] = None,
    looks: Annotated[
        int, typer.Option("--looks", min=1, help="Looks at each service before the next.")
    ] = _RULES.looks,
    every: Annotated[
        float, typer.Option("--every", min=0.0, help="Seconds between two looks.")
    ] = _RULES.every_s,
    failed: Annotated[
        float,
        typer.Option(
            "--failed", min=0.0, max=1.0, help="Share of failed requests from which a service is bad."
        ),
    ] = _RULES.failed_ratio,
    home: Home = DEFAULT_HOME,
) -> None:
    """Deploy a version: verify its signatures, replace one service after another, and roll all back at the first bad one."""
    layout, source = place(home), Registry(registry)
    target: Target
    if overlay is None:
        target = HomeTarget(layout, source)
    else:
        target = Cluster(overlay, base, images, services.start_order(), kubectl=shlex.split(kubectl))
    found = manifest.verified(source, version, trusted or [layout.model_public_key])
    rules = Rules(looks=looks, every_s=every, failed_ratio=failed)
    deployer = Deployer(
        target, _records(layout), rules, time.sleep, lambda text: out.print(text, markup=False)
    )
    _alone(layout)
    _told(deployer.deploy(found, getpass.getuser(), service or ()), version, target)


def _told(outcome: Outcome, version: str, target: Target) -> None:
    if outcome.result is Result.SUCCEEDED:
        if isinstance(target, HomeTarget):
            target.forget_unused()
        out.print(f"[green]{version}[/] is deployed to {target.name}")
        return
    done = "all was rolled back" if outcome.result is Result.ROLLED_BACK else "and NOT all was rolled back"
    fail(f"{version}: {outcome.service} was bad, {done}: {outcome.why}")


def _alone(layout: Layout) -> None:
    """Keeps other deployments of this home out until this process ends. Raises DeliveryError."""
    layout.deployed.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not pid_lock.acquire(layout.deployed / "deploy.lock"):
        raise DeliveryError("another deployment is on its way here; wait for its end")


def _records(layout: Layout) -> Records:
    return Records(layout.deployment_log, lambda: datetime.now(UTC))
