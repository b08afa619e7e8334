"""redis-py is for installations of several machines: what needs none runs without it, and whatever needs it names the extra."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Imported only by functions, where the store is in Redis; features has redis-py by its own group.
LATE = ("services.monitoring.rollouts.handover_redis", "services.features.", "headrace.state.redis_tls")


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder, base in ((ROOT / "libs" / "headrace", ROOT / "libs"), (ROOT / "services", ROOT)):
        for path in folder.rglob("*.py"):
            if not {"api", "oip"} & set(path.relative_to(base).parts):
                name = ".".join(path.relative_to(base).with_suffix("").parts)
                yield name, ast.parse(path.read_text())


def imported(nodes: list[ast.stmt]) -> set[str]:
    """Modules that statements import when they are run, functions aside."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            found |= imported(node.body)
    return found


def test_redis_is_imported_only_where_the_settings_name_one() -> None:
    early = {name: imported(module.body) for name, module in sources()}
    needs = {name for name, modules in early.items() if any(m.split(".")[0] == "redis" for m in modules)}
    assert {name for name in needs if not name.startswith(LATE)} == set()
    assert {name for name, modules in early.items() if LATE[0] in modules} == set()


def test_the_extra_that_the_errors_name_is_declared_and_in_what_make_up_installs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = "pip install 'headrace[redis]'"
    tell = {
        path.relative_to(ROOT).as_posix()
        for folder in ("libs/headrace", "services")
        for path in (ROOT / folder).rglob("*.py")
        if named in path.read_text()
    }
    assert tell == {"libs/headrace/releases/place.py", "libs/headrace/state/redis.py"}
    assert [one.partition(">")[0] for one in extras["redis"]] == ["redis"]
    assert "redis" in extras["all"][0].partition("[")[2].rstrip("]").split(",")
    # One version for all: features has it by Feast.
    assert any(one.startswith("feast[redis]") for one in extras["features"])
