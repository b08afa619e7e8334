"""The layout rules that import-linter can't state: which files may know grpc and generated code, and how long they may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(p.parent for p in (ROOT / "services").glob("*/wiring.py"))
# The rooms of a service that face the wire; all other modules are domain logic.
WIRE_MODULES = {"servicer.py", "clients.py", "wiring.py", "__main__.py"}
WIRE_ROOMS = {"door", "rest", "backends"}
LONGEST_FILE = 400


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def domain_modules() -> list[Path]:
    return [
        path
        for service in SERVICES
        for path in sorted(service.rglob("*.py"))
        if path.name not in WIRE_MODULES and not WIRE_ROOMS & set(path.relative_to(service).parts)
    ]


def ours() -> list[Path]:
    rooms = [ROOT / "services", ROOT / "libs", ROOT / "load", ROOT / "deploy"]
    found = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return [p for p in found if not {"api", "oip"} & set(p.relative_to(ROOT).parts)]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", domain_modules(), ids=name)
def test_domain_modules_know_neither_grpc_nor_generated_code(path: Path) -> None:
    wire = [
        m
        for m in imports_of(path)
        if m.split(".")[0] == "grpc" or m.startswith(("headrace.api.", "headrace.oip"))
    ]
    assert wire == []


@pytest.mark.parametrize("path", ours(), ids=name)
def test_files_hold_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", ours(), ids=name)
def test_no_room_is_named_for_nothing(path: Path) -> None:
    assert path.stem.rstrip("s") not in {"util", "common", "helper", "misc"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_every_service_has_the_same_rooms(service: Path) -> None:
    missing = [
        f
        for f in ("README.md", "__main__.py", "config.py", "wiring.py", "servicer.py")
        if not (service / f).exists()
    ]
    assert missing == []
    assert len((service / "__main__.py").read_text().splitlines()) <= 30
    assert len((service / "README.md").read_text().splitlines()) <= 80
