"""podman: building an image, and what it says of one."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import dataclass
from pathlib import Path

from deploy.images.context import EPOCH, ImageError, run

_QUIET = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


@dataclass(frozen=True)
class Image:
    """An image as it is stored here."""

    name: str
    # Of its configuration, which names all its layers: the same content has the same ID on every machine.
    id: str
    # Of its manifest with layers that are not compressed; a registry has its own.
    digest: str
    size_mb: float


def podman(*arguments: str) -> str:
    """What podman printed. Raises ImageError."""
    # podman's own choice, crun, refuses cgroups of both versions at once.
    runtime = ("--runtime", "runc") if shutil.which("runc") else ()
    return run("podman", *runtime, *arguments, **_QUIET)


def limits() -> tuple[str, ...]:
    """Options without which podman asks for more files and processes than this session may have."""
    kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    return tuple(f"--ulimit={name}={value}:{value}" for name, value in hard.items())


def build(context: Path, service: str, name: str) -> Image:
    """Builds the image of a service. Its digest depends on the context alone. Raises ImageError."""
    file = Path(__file__).parent / "Containerfile"
    podman(
        *("build", "-q", "--network", "none", "--timestamp", str(EPOCH), "--target", service, *limits()),
        *("--build-arg", f"SERVICE={service}", "-f", str(file), "-t", name, str(context)),
    )
    return image(name)


def image(name: str) -> Image:
    """What is stored under the name. Raises ImageError if there is nothing."""
    found = json.loads(podman("image", "inspect", name))
    if not found:
        raise ImageError(f"no image {name}")
    return Image(name, found[0]["Id"], found[0]["Digest"], found[0]["Size"] / 1e6)
