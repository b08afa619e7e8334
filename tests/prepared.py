"""The folder in which the systems of tests run: what `headrace up` prepares there, once for all lanes, and its ports."""

import os
import shutil
import zlib
from pathlib import Path

from deploy.pipelines.preparation import note_models
from headrace.cli.installation import layout, ports

# Data, models and the key that signs them, and the stamps by which `headrace up` finds them up to date; nothing of a run.
_PARTS = ("data", "feast", "models", "models.key", "models.pub", "flights.json", "moderation.json")


def is_prepared(home: Path) -> bool:
    return (home / "data" / "requests.jsonl").exists()


def copied_from(shared: Path | None, home: Path) -> bool:
    """Copies what another lane has prepared into `home`; False if none has."""
    if shared is None or not shared.exists():
        return False
    copy_prepared(shared, home)
    return True


def copy_to(shared: Path | None, home: Path) -> None:
    """Copies what `home` has before any test has changed it to `shared`, which is there as a whole or not at all."""
    if shared is None or shared.exists():
        return
    part = shared.with_name(f"{shared.name}.{os.getpid()}")
    copy_prepared(home, part)
    try:
        part.rename(shared)
    except OSError:  # another lane was faster
        shutil.rmtree(part)


def copy_prepared(source: Path, target: Path) -> None:
    """Copies what `headrace up` prepares, and nothing of a run."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _PARTS:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, target / name, dirs_exist_ok=True)
        elif path.exists():
            shutil.copy2(path, target / name)
    if (target / "models").exists():
        note_models(target)


def own_ports(home: Path) -> None:
    """Ports at which no other home begins to search: two homes that search at the same time may find the same one free.

    From 10,080 to 31,800: beyond are those of `ports`, and those that the kernel gives to outgoing connections.
    """
    place = layout.of(home)
    if not place.ports.exists():
        block = 2_000 + zlib.crc32(bytes(home)) % 100 * 200
        place.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports.save(place.ports, {name: first + block for name, first in ports.wanted().items()})
