"""`headrace deliver publish VERSION`: sign and push what was built."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.commands.delivery.options import DEFAULT_REGISTRY, RegistryFolder, refusing
from headrace.cli.console import DEFAULT_HOME, Home, command, out, place
from headrace.cli.installation import services
from headrace.delivery import manifest, packages
from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import Manifest
from headrace.delivery.oci import Registry


@refusing
def publish(
    version: Annotated[str, typer.Argument(help="Its name, which no other version may have.")],
    registry: RegistryFolder = DEFAULT_REGISTRY,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="OCI layout that it writes, with a tag headrace-SERVICE for each.",
            file_okay=False,
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="Private key (PEM, P-256) that signs. Default: the home's.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Make a version of images that were built (without --images: of packages of this checkout): sign and push them."""
    layout = place(home)
    manifest.checked_version(version)
    target = Registry(registry)
    target.make()
    made = (
        packages.build(target, layout.root, services.start_order())
        if images is None
        else _taken(images, target)
    )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    found = Manifest(version, made, _commit(layout.root), at)
    digest = manifest.publish(target, found, key or layout.model_key)
    for service, image in made.items():
        out.print(f"{service:15} {image}")
    out.print(f"[green]{version}[/] {digest}")
    out.print(f"→ {command()} deliver deploy {version} --registry {registry}", style="bold", soft_wrap=True)


def _taken(images: Path, target: Registry) -> dict[str, str]:
    """Copies the images that were built. Raises DeliveryError: none is there."""
    built = Registry(images)
    tags, taken = built.tags(), {}
    for service in services.start_order():
        if manifest.reference(service) in tags:
            taken[service] = built.resolve(manifest.reference(service))
            target.take(built, taken[service])
            target.tag(manifest.reference(service), taken[service])
    if not taken:
        there = ", ".join(sorted(tags)) or "none"
        raise DeliveryError(
            f"{images} has no image headrace-SERVICE (tags: {there}); build them into it first"
        )
    return taken


def _commit(root: Path) -> str:
    """The commit of the code; empty where git does not know. With uncommitted changes it ends with `-dirty`."""
    try:
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *packages.PARTS)
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed arguments
