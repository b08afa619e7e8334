"""The lock of each image: the part of requirements.lock that its service needs, with versions and hashes as they stand there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "locks"
# The Python of Debian 13, by which the base is made.
PYTHON = "3.13"
MACHINES = ("x86_64", "aarch64")
# Extras of pyproject.toml in an image, if not only its service's own. With redis: what names a shared store in a cluster.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    # It verifies the models whose baselines explain an answer.
    "router": ("router", "redis", "signing"),
    "ingress": ("ingress", "redis"),
    "monitoring": ("monitoring", "redis"),
    # All services in the door's process.
    "edge": (
        *("ingress", "router", "features", "preprocessing", "executor", "postprocessing", "control"),
        *("monitoring", "redis"),
    ),
}
# What a package requires but no service imports. A container of the image must get ready without it (tests/images).
OMITTED: Mapping[str, str] = {
    "mypy": "Feast names it by sqlalchemy[mypy]: a checker of types, 49 MB",
    "uvicorn-worker": "Feast's own servers (which import gunicorn as soon as Feast is imported, so that stays)",
}
# The executor with what NVIDIA's GPUs need: the executor's lock, and a lock of its own for what no other installation has.
GPU = "executor-gpu"
GPU_LOCK = Path(__file__).parent / "gpu" / "requirements.lock"
# It has the modules of onnxruntime, in whose place it comes.
_REPLACED = {"onnxruntime": "onnxruntime-gpu"}
_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?")


class LockError(ValueError):
    """The lock or the environment lacks what a service needs."""


@dataclass(frozen=True)
class Locked:
    """A package of the lock."""

    name: str
    version: str
    # sha256 of the files that may be installed, for any machine.
    hashes: tuple[str, ...]
    marker: str = ""

    def applies(self) -> bool:
        """Whether the Python of the images takes it, on any machine."""
        return not self.marker or any(_holds(Marker(self.marker), machine) for machine in MACHINES)

    @cached_property
    def text(self) -> str:
        """As a requirement with hashes. Without its marker: it applies."""
        return " \\\n    ".join(
            (f"{self.name}=={self.version}", *(f"--hash=sha256:{one}" for one in self.hashes))
        )


def parsed(text: str) -> Iterator[Locked]:
    """The packages of a lock as `uv pip compile --generate-hashes` writes it. Raises LockError for a line it would not write."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    for entry in re.split(r"\n(?=[^-])", "\n".join(lines)) if lines else ():
        first, *rest = entry.splitlines()
        found = _ENTRY.fullmatch(first)
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
        if found is None or not hashes or len(hashes) != len(rest):
            raise LockError(f"not a package with hashes: {first!r}; make the lock by `make lock`")
        yield Locked(found["name"], found["version"], hashes, found["marker"] or "")


def needed(
    requirements: Iterable[str], extras: Mapping[str, list[str]], omitted: Iterable[str] = OMITTED
) -> set[str]:
    """Names of all packages that the requirements bring, except those that are omitted.

    `extras`: of our own project. What others require is read from what is installed here; raises LockError if it is not.
    """
    names: set[str] = set()
    seen: set[str] = set()
    open_ = [Requirement(text) for text in requirements]
    while open_:
        requirement = open_.pop()
        name = canonicalize_name(requirement.name)
        if f"{name}{sorted(requirement.extras)}" in seen or name in omitted:
            continue
        seen.add(f"{name}{sorted(requirement.extras)}")
        if name == "headrace":
            open_ += [Requirement(text) for extra in requirement.extras for text in extras[extra]]
            continue
        names.add(name)
        open_ += _required(name, requirement.extras)
    return names


def _required(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    try:
        texts = metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        raise LockError(f"{name} is not installed here, so what it needs is unknown; run `make up`") from None
    for text in texts:
        requirement = Requirement(text)
        if requirement.marker is None or any(
            _holds(requirement.marker, machine, extra) for machine in MACHINES for extra in ("", *extras)
        ):
            yield requirement


def _holds(marker: Marker, machine: str, extra: str = "") -> bool:
    return marker.evaluate(
        {
            "python_version": PYTHON,
            "python_full_version": f"{PYTHON}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "platform_machine": machine,
            "platform_system": "Linux",
            "sys_platform": "linux",
            "os_name": "posix",
            "extra": extra,
        }
    )


def made(image: str, project: Mapping[str, Any], locked: Iterable[Locked]) -> str:
    """The lock of an image. Raises LockError if the lock lacks a package."""
    extras = project["optional-dependencies"]
    brought = [text for extra in EXTRAS.get(image, (image,)) for text in extras[extra]]
    names = needed((*project["dependencies"], *brought), extras)
    chosen: dict[str, Locked] = {
        canonicalize_name(package.name): package for package in locked if package.applies()
    }
    if missing := sorted(names - chosen.keys()):
        raise LockError(f"requirements.lock lacks {', '.join(missing)}; renew it by `make lock`")
    return "".join(f"{chosen[name].text}\n" for name in sorted(names))


def with_gpu(executor: str, parts: str) -> str:
    """The lock of executor-gpu: the executor's, with the parts that it lacks. Raises LockError if they contradict each other."""
    own = {package.name: package for package in parsed(parts) if package.applies()}
    chosen = {package.name: package for package in parsed(executor) if package.name not in _REPLACED}
    if missing := sorted(set(_REPLACED.values()) - own.keys()):
        raise LockError(f"{GPU_LOCK.name} of {GPU} lacks {', '.join(missing)}; renew it by `make lock`")
    for name, package in own.items():
        if chosen.setdefault(name, package).version != package.version:
            raise LockError(
                f"{name} is {package.version} for {GPU}, but {chosen[name].version} elsewhere; renew both by `make lock`"
            )
    return "".join(f"{chosen[name].text}\n" for name in sorted(chosen))


def names(services: Iterable[str]) -> tuple[str, ...]:
    """All images: one for each service, the executor on GPUs, and the one that has all services."""
    return (*services, GPU, "edge")


def service_of(image: str) -> str:
    """The service whose entry point the image has."""
    return {GPU: "executor", "edge": "ingress"}.get(image, image)


def all_made(images: Collection[str], root: Path = ROOT) -> dict[str, str]:
    """The lock of each image, from pyproject.toml, requirements.lock and the lock of the parts for GPUs."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    locked = list(parsed((root / "requirements.lock").read_text()))
    found = {image: made(image, project, locked) for image in images if image != GPU}
    if GPU in images:
        found[GPU] = with_gpu(made(service_of(GPU), project, locked), GPU_LOCK.read_text())
    return found


def write(images: Collection[str]) -> list[Path]:
    """Writes the locks; those that changed."""
    changed = []
    FOLDER.mkdir(exist_ok=True)
    for image, text in all_made(images).items():
        path = FOLDER / f"{image}.lock"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(path)
    return changed
