"""The context of executor-gpu beside what every image has: its packages, and what the stage `compiler` works with."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from deploy.images import context, locks
from deploy.images.debian import Package
from deploy.images.locks import Locked

_HERE = Path(__file__).parent
# Packages of TensorRT for RTX cards, in whose place those of a folder may come.
_TENSORRT = "tensorrt-rtx-"
# They have no wheel.
_SOURCES = ("pycuda", "tensorrt-rtx-cu13")
# The hashes of the wheels in a folder.
WHEELS_LOCK = "wheels.lock"


def locked(wheels: Path | None) -> list[Locked]:
    """What the image has, by its lock. `wheels`: a folder whose wheels come in the place of TensorRT for RTX cards.

    Raises ImageError: the folder has no lock, or that lock has nothing of TensorRT or what the image has in another version.
    """
    own = list(locks.parsed((locks.FOLDER / f"{locks.GPU}.lock").read_text()))
    if wheels is None:
        return own
    path = wheels / WHEELS_LOCK
    try:
        given = list(locks.parsed(path.read_text()))
    except OSError as error:
        raise context.ImageError(
            f"{path}: {error.strerror}; deploy/images/README.md says how it is made"
        ) from None
    except locks.LockError as error:
        why = str(error).partition(";")[0]
        raise context.ImageError(f"{path}: {why}; deploy/images/README.md says how it is made") from None
    if not any(package.name.startswith("tensorrt") for package in given):
        raise context.ImageError(f"{path} names no package of TensorRT")
    kept = {package.name: package for package in own if not package.name.startswith(_TENSORRT)}
    if twice := sorted(kept.keys() & {package.name for package in given}):
        raise context.ImageError(
            f"{path} names {', '.join(twice)}, which the image has by its own lock; take it out"
        )
    return sorted((*kept.values(), *given), key=lambda package: package.name)


def lock_wheels(folder: Path) -> Path:
    """Writes the lock of the wheels in a folder, as they are there. Raises ImageError: none, or two versions."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename as error:
            raise context.ImageError(f"{path}: {error}") from None
        found.setdefault((name, str(version)), []).append(hashlib.sha256(path.read_bytes()).hexdigest())
    if not found:
        raise context.ImageError(f"{folder} has no wheel")
    if len({name for name, _ in found}) < len(found):
        raise context.ImageError(f"{folder} has wheels of two versions of a package; leave one")
    return _written(folder / WHEELS_LOCK, [Locked(*key, tuple(hashes)) for key, hashes in found.items()])


def service(folder: Path, version: str, inside: list[Package], wheels: Path | None) -> None:
    """What the Containerfile copies for executor-gpu. `wheels`: see `locked`. Raises ImageError."""
    packages = locked(wheels)
    own = context.emptied(folder / locks.GPU)
    sources = [package for package in packages if package.name in _SOURCES]
    lock = _written(own / "wheels.lock", [package for package in packages if package not in sources])
    context.install(own / "packages", lock, *(("--find-links", wheels) if wheels else ()))
    context.finish(own, locks.GPU, version, packages, inside)
    compiled = own / "compile"
    compiled.mkdir()
    shutil.copy(_HERE / "compile.py", compiled)
    context.install(compiled / "tools", _HERE / "compile.lock")
    # uv downloads no archives of sources. pip asks them for their names, with setuptools of this environment.
    context.run(
        *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"),
        *("--no-build-isolation", "--no-binary", ":all:", "-d", compiled / "sources"),
        *("-r", _written(own / "sources.lock", sources)),
    )
    context.readable(compiled)
    context.run(_HERE / "compiler.sh", own / "compiler.tar", SOURCE_DATE_EPOCH=str(context.EPOCH))


def _written(path: Path, packages: Sequence[Locked]) -> Path:
    path.write_text("".join(f"{package.text}\n" for package in packages))
    return path
