"""Where pyproject.toml must list the services, it lists those of the folder services/, and no other."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = {path.parent.name for path in (ROOT / "services").glob("*/wiring.py")}


def test_no_service_may_import_another() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    [modules] = [c["modules"] for c in contracts if c["type"] == "independence"]
    assert sorted(modules) == sorted(f"services.{name}" for name in FOLDERS)


def test_each_service_but_the_door_can_be_hosted() -> None:
    points = PROJECT["project"]["entry-points"]["headrace.services"]
    assert points == {name: f"services.{name}.wiring:SERVICE" for name in FOLDERS - {"ingress"}}


def test_each_service_can_be_installed_by_itself() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert extras.keys() >= FOLDERS
    [everything] = extras["all"]
    assert set(everything.removeprefix("headrace[").removesuffix("]").split(",")) >= FOLDERS


def test_no_list_of_the_services_is_written_down_again() -> None:
    sources = [p for room in ("libs/headrace/cli", "load") for p in (ROOT / room).rglob("*.py")]
    lists = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.List | ast.Tuple | ast.Set)
        if len({e.value for e in node.elts if isinstance(e, ast.Constant)} & FOLDERS) > 2
    ]
    assert lists == [], "take it from headrace.cli.installation.services"
