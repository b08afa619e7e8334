"""A plugin (`pytest -p tests.fast`) that leaves the tests that open a socket or start a process, found by reading their source.

It leaves those that load Feast too, whose import would take a quarter of the time of all others. Properties are tried with
fewer examples than in `make test`.

A file is pure if neither its text nor that of the test modules it imports contains one of the words below. A pure file's
test is fast if its fixtures are defined in pure files too. So no list of files has to be kept.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

MAX_EXAMPLES = 25
ROOT = Path(__file__).parents[1]
IMPURE = re.compile(
    r"\b(socket|subprocess|multiprocessing|http\.server|urllib\.request|asyncio\.(start_|open_|create_subprocess)\w*"
    r"|grpc\.(aio\.)?(insecure_channel|secure_channel|server)|testing\.served|os\.fork|dial\("
    r"|CliRunner|headrace\.cli\.supervision import daemon|load\.systems"
    r"|from feast|import feast|importorskip\(\"feast)"
)


def pytest_sessionstart() -> None:
    """After conftest.py has loaded its profile, before a test is imported, so that no test can say more."""
    settings.register_profile("fast", settings.default, max_examples=MAX_EXAMPLES)
    settings.load_profile("fast")
    make = settings.__init__

    def few(self: settings, parent: settings | None = None, **more: Any) -> None:
        wanted = more.pop("max_examples", (parent or settings.default).max_examples)
        make(self, parent, max_examples=min(wanted, MAX_EXAMPLES), **more)

    settings.__init__ = few  # type: ignore[method-assign]  # a test's own number goes over the profile's


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves impure files, and folders without a pure one, before anything of theirs is imported."""
    if collection_path.is_dir():
        conftest = collection_path / "conftest.py"
        if conftest.exists() and "from feast import" in conftest.read_text():
            return True
        tests = collection_path.rglob("test_*.py")
        return None if any(pure(path) for path in tests) else True
    if not collection_path.match("test_*.py"):
        return None
    return None if pure(collection_path) else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests that have an impure fixture, and those marked slow."""
    chosen = [item for item in items if _fast(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def _fast(item: pytest.Item) -> bool:
    if item.get_closest_marker("slow"):
        return False
    info = getattr(item, "_fixtureinfo", None)
    definitions = [d for found in info.name2fixturedefs.values() for d in found] if info else []
    files = {Path(d.func.__code__.co_filename) for d in definitions}
    return all(pure(file) for file in files if ROOT / "tests" in file.parents)


@cache
def pure(path: Path) -> bool:
    """Whether the file, and the test modules that it imports, have none of the words."""
    return not any(IMPURE.search(file.read_text()) for file in _closure(path.resolve()))


def _closure(path: Path) -> set[Path]:
    found, waiting = {path}, [path]
    while waiting:
        for file in _imported(waiting.pop()) - found:
            found.add(file)
            waiting.append(file)
    return found


@cache
def _imported(path: Path) -> frozenset[Path]:
    """The modules below tests/ that the file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    files = (
        (ROOT / name.replace(".", "/")).with_suffix(".py") for name in names if name.startswith("tests.")
    )
    return frozenset(file for file in files if file.exists())
