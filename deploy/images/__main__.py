"""`make images`: builds them, and says of each how large it is and by which digest it is known."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from deploy.images import context, locks, podman
from deploy.images.gpu import parts
from headrace.cli.console import fail, out
from headrace.cli.installation import services

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Container images, one for each service.")
FOLDER = locks.ROOT / "dist" / "images"
RECORD = FOLDER / "images.json"
# The largest that an image may be, in MB as podman counts them: 200 for a leaf; else a little more than measured.
# What verifies models is 50 of the router, Envoy 105 of the door, ONNX 76 of the executor, Arrow 165 of features (Feast)
# and 130 of monitoring; SQLAlchemy and PostgreSQL's library 30 of control, the latter with Alembic 14 of the edge.
BUDGET_MB: Mapping[str, float] = {
    "ingress": 335,
    "router": 235,
    "features": 475,
    "preprocessing": 200,
    "executor": 315,
    "postprocessing": 200,
    "monitoring": 370,
    "control": 240,
    # CUDA's libraries are 1,200 of it, cuDNN 900, ONNX Runtime for CUDA 330, TensorRT 230.
    "executor-gpu": 3060,
    "edge": 760,
}
BASE_MB = 80


@app.command("locks")
def write_locks() -> None:
    """Derives the lock of each image from pyproject.toml and requirements.lock."""
    try:
        changed = locks.write(_names())
    except locks.LockError as error:
        fail(str(error))
    for path in changed:
        out.print(f"written: {path.relative_to(locks.ROOT)}")
    if not changed:
        out.print("nothing to do: the locks are up to date")


@app.command("lock-wheels")
def lock_wheels(
    folder: Annotated[
        Path, typer.Argument(help="Wheels for `build --wheels`.", exists=True, file_okay=False)
    ],
) -> None:
    """Writes the hashes of a folder's wheels, as they are there: keep the file where others can compare."""
    try:
        out.print(f"written: {parts.lock_wheels(folder)}", soft_wrap=True)
    except context.ImageError as error:
        fail(str(error))


@app.command()
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Images (services, executor-gpu, edge); all but executor-gpu if none is named."),
    ] = None,
    registry: Annotated[str, typer.Option(help="As in the manifests.")] = "localhost",
    version: Annotated[str, typer.Option(help="As in the manifests.")] = "latest",
    wheels: Annotated[
        Path | None,
        typer.Option(
            help=f"executor-gpu: folder with wheels in the place of TensorRT for RTX cards, and their {parts.WHEELS_LOCK}.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Builds images, checks their sizes and records their digests."""
    wanted = names or [name for name in _names() if name != locks.GPU]
    if wheels is not None and locks.GPU not in wanted:
        fail(f"--wheels is for {locks.GPU}; name that image")
    if unknown := sorted(set(wanted) - set(_names())):
        fail(f"no image {', '.join(unknown)}; there are {', '.join(_names())}")
    begin = time.monotonic()
    try:
        built = _built(wanted, registry, version, wheels)
    except context.ImageError as error:
        fail(str(error))
    _record(built)
    # Wheels that somebody brings may be as large as they are.
    budget = BUDGET_MB if wheels is None else {**BUDGET_MB, locks.GPU: math.inf}
    _show(built, budget, time.monotonic() - begin)
    if large := [name for name, image in built.items() if image.size_mb > budget[name]]:
        fail(
            f"too large: {', '.join(large)}; see what grew by: git diff deploy/images/locks, or du in {FOLDER}/context"
        )


def _names() -> tuple[str, ...]:
    return locks.names(services.start_order())


def _built(names: list[str], registry: str, version: str, wheels: Path | None) -> dict[str, podman.Image]:
    folder = FOLDER / "context"
    folder.mkdir(parents=True, exist_ok=True)
    with out.status("base from Debian's packages …"):
        debian = context.base(folder)
    size = (folder / "base.tar").stat().st_size / 1e6
    out.print(f"[green]✓[/] base: {len(debian)} packages, {size:.0f} MB")
    if size > BASE_MB:
        raise context.ImageError(
            f"the base has {size:.0f} MB, more than {BASE_MB}; see deploy/images/unpacked.sh"
        )
    with out.status("our wheel …"):
        context.code(folder)
    built = {}
    for number, name in enumerate(names, 1):
        begin = time.monotonic()
        with out.status(f"{name} ({number} of {len(names)}): packages by its lock, then the image …"):
            if name == locks.GPU:
                parts.service(folder, version, debian, wheels)
            else:
                context.service(folder, name, version, debian)
            built[name] = podman.build(folder, name, f"{registry}/headrace-{name}:{version}")
        out.print(f"[green]✓[/] {name}: {built[name].size_mb:.0f} MB, {time.monotonic() - begin:.0f} s")
    return built


def _record(built: dict[str, podman.Image]) -> None:
    """Keeps what was built earlier: images may be built one at a time."""
    known: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known |= {name: asdict(image) for name, image in built.items()}
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def _show(built: dict[str, podman.Image], budget: Mapping[str, float], took_s: float) -> None:
    table = Table("image", "MB", "at most", "ID", box=None)
    for name, image in built.items():
        style = "red" if image.size_mb > budget[name] else ""
        table.add_row(image.name, f"{image.size_mb:.0f}", f"{budget[name]:.0f}", image.id[:12], style=style)
    out.print(table)
    out.print(
        f"in {took_s:.0f} s; digests: {_near(RECORD)}, bills of materials: {_near(FOLDER)}/context/SERVICE/sbom.cdx.json"
    )
    out.print("next: [bold]kubectl apply -k deploy/kubernetes/base[/]")


def _near(path: Path) -> Path:
    return path.relative_to(locks.ROOT)


if __name__ == "__main__":
    app()
