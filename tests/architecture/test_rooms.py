"""The rules that no linter states: which files may know grpc, redis and kinds of stages, how long they are, where they lie."""

import ast
import io
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from headrace.pipeline import STAGE_KINDS
from services.router.stages.registry import RUNNER_KINDS, callees
from services.router.wiring import SERVICE

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / name for name in ("libs/headrace", "services", "load")]
GENERATED = {ROOT / "libs/headrace/api", ROOT / "libs/headrace/oip"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SERVICES = sorted(p.parent for p in (ROOT / "services").glob("*/wiring.py"))
FOLDERS = {path.name for path in SERVICES}
# The modules of a service that face the wire; all others are domain logic.
WIRE_MODULES = {"servicer.py", "clients.py", "wiring.py", "__main__.py"}
# Whole folders of them: the ingress translates protocols, a backend of the executor may be remote, a stage calls a service.
WIRE_ROOMS = {
    "ingress": {"oip", "predict", "protocols", "releases"},
    "executor": {"backends"},
    "router": {"stages"},
}
LONGEST_FILE = 400
MOST_MODULES = 12
# Nouns of the field, or of Python, that end so; `returning` goes with the linger that it decides.
NOUNS = {"binding", "hosting", "outgoing", "returning", "ring", "scaling", "testing", "tracing", "wiring"}
EMPTY_NAMES = {"util", "common", "helper", "misc", "tool", "stuff"}
# What silences a checker, and then the reason.
SUPPRESSION = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pragma: no cover)\b(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[\w, -]+\])?"
)


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
        if path.name not in WIRE_MODULES
        and not WIRE_ROOMS.get(service.name, set()) & set(path.relative_to(service).parts[:-1])
    ]


@cache
def ours() -> dict[str, str]:
    """Path from the root → text, of each file of Python by hand."""
    rooms = [ROOT / name for name in ("services", "libs", "load", "deploy", "tests")]
    found = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return {str(p.relative_to(ROOT)): p.read_text() for p in found if not GENERATED & set(p.parents)}


def test_domain_modules_know_neither_grpc_nor_generated_code() -> None:
    wire = [
        f"{path.relative_to(ROOT)}: imports {module}"
        for path in domain_modules()
        for module in imports_of(path)
        if module.split(".")[0] == "grpc" or module.startswith(("headrace.api.", "headrace.oip"))
    ]
    assert not wire, "\n".join(wire)


def test_files_hold_one_thing() -> None:
    lengths = {name: len(text.splitlines()) for name, text in ours().items()}
    long = [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > LONGEST_FILE]
    assert not long, "\n".join(long)


def test_no_room_is_named_for_nothing() -> None:
    words = {name: {part.removesuffix(".py").rstrip("s") for part in Path(name).parts} for name in ours()}
    empty = [name for name, parts in words.items() if parts & EMPTY_NAMES]
    assert not empty, "\n".join(empty)


def test_every_suppression_has_a_reason() -> None:
    bare = [
        f"{name}:{comment.start[0]}: {comment.string}"
        for name, text in ours().items()
        if SUPPRESSION.search(text)  # few have any, and this is fast
        for comment in tokenize.generate_tokens(io.StringIO(text).readline)
        if comment.type == tokenize.COMMENT
        for found in SUPPRESSION.finditer(comment.string)
        if not re.match(r"\W*\w", comment.string[found.end() :])
    ]
    assert not bare, "\n".join(bare)


def made_by_a_factory(service: Path) -> bool:
    """Whether its wiring only calls a factory of libs, which brings settings and servicer: it defines nothing itself."""
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    return not any(
        isinstance(node, defined) for node in ast.walk(ast.parse((service / "wiring.py").read_text()))
    )


def twice(text: str) -> list[str]:
    """Names that the top of a module binds more than once."""
    found: Counter[str] = Counter()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] += 1
    return [name for name, count in found.items() if count > 1 and name not in ("_", "T")]


def test_no_name_of_a_module_is_given_twice() -> None:
    """The second would silently stand for the first, which no linter finds where both are constants."""
    found = [f"{name}: {again}" for name, text in ours().items() for again in twice(text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("service", SERVICES, ids=lambda p: p.name)
def test_every_service_has_the_same_rooms(service: Path) -> None:
    files = {"README.md", "__main__.py", "wiring.py"}
    if made_by_a_factory(service):
        # And then it has no code besides: what it would hold belongs into the factory.
        assert {p.name for p in service.rglob("*.py")} == {"__init__.py", "__main__.py", "wiring.py"}
    else:
        files |= {"config.py", "servicer.py"}
    missing = [
        f
        for f in sorted(files)
        # Who serves two APIs has a folder for each.
        if not (service / f).exists()
        and not (f == "servicer.py" and [*service.glob("*/servicer.py"), *service.glob("oip/service.py")])
    ]
    assert missing == []
    assert len((service / "__main__.py").read_text().splitlines()) <= 30
    assert len((service / "README.md").read_text().splitlines()) <= 80


def test_no_two_files_of_tests_have_one_name() -> None:
    """`make test-slow` collects all at once, and pytest imports tests by their bare names."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [n for n, count in names.items() if count > 1] == []


def modules() -> list[Path]:
    found = [path for folder in SHIPPED for path in sorted(folder.rglob("*.py"))]
    return [p for p in found if p.name != "__init__.py" and not GENERATED & set(p.parents)]


def test_no_floor_is_crowded() -> None:
    floors = Counter(str(path.parent.relative_to(ROOT)) for path in modules())
    assert {floor: count for floor, count in floors.items() if count > MOST_MODULES} == {}


def test_no_module_is_named_by_a_bare_gerund() -> None:
    gerunds = [str(p.relative_to(ROOT)) for p in modules() if p.stem.endswith("ing") and p.stem not in NOUNS]
    assert not gerunds, "\n".join(gerunds)


def test_every_folder_of_code_says_what_it_is_for() -> None:
    folders = {path.parent for path in modules()}
    silent = [f for f in sorted(folders) if not (f / "README.md").exists() and not _docstring(f)]
    assert [str(f.relative_to(ROOT)) for f in silent] == []


def _docstring(folder: Path) -> bool:
    init = folder / "__init__.py"
    return init.exists() and init.read_text().startswith('"""')


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
    lists = [
        f"{path}:{node.lineno}"
        for path, text in ours().items()
        if path.startswith(("libs/headrace/cli/", "load/"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.List | ast.Tuple | ast.Set)
        if len({e.value for e in node.elts if isinstance(e, ast.Constant)} & FOLDERS) > 2
    ]
    assert lists == [], "take it from headrace.cli.installation.services"


# Imported only by functions, where the settings name a Redis; features has redis-py by its own group.
LATE = ("headrace.state.redis_tls", "services.features.")


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Of services and libs, by the names of their modules."""
    for path, text in ours().items():
        if path.startswith(("libs/", "services/")):
            yield path.removeprefix("libs/").removesuffix(".py").replace("/", "."), ast.parse(text)


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
    extras = PROJECT["project"]["optional-dependencies"]
    named = "pip install 'headrace[redis]'"
    telling = [path for path, text in ours().items() if named in text and not path.startswith("tests/")]
    assert telling == ["libs/headrace/state/redis.py"]
    assert [one.partition(">")[0] for one in extras["redis"]] == ["redis"]
    assert "redis" in extras["all"][0].partition("[")[2].rstrip("]").split(",")
    # One version for all: features has it by Feast.
    assert any(one.startswith("feast[redis]") for one in extras["features"])


def test_no_other_module_names_a_kind() -> None:
    types = {f"{name.capitalize()}{what}" for name in (*STAGE_KINDS, "steps") for what in ("Stage", "Runner")}
    named = [
        f"{path}:{number}: {kind}"
        for path, text in ours().items()
        if path.startswith(("services/router/", "libs/headrace/pipeline/"))
        and Path(path).parent.name != "stages"
        # The public names of the library are listed there.
        if path != "libs/headrace/pipeline/__init__.py"
        for number, line in enumerate(text.splitlines(), 1)
        for kind in STAGE_KINDS.keys() & set(re.findall(r'"(\w+)"', line))
        | types & set(re.findall(r"\w+", line))
    ]
    assert not named, "\n".join(named)


def test_each_kind_of_stage_that_a_document_may_have_can_be_run() -> None:
    assert RUNNER_KINDS.keys() == STAGE_KINDS.keys()
    assert all(kind.name == name for name, kind in RUNNER_KINDS.items())


def test_the_router_has_a_setting_for_each_service_that_stages_call() -> None:
    names = [name for name in SERVICE.config.model_fields if name in callees()]
    assert sorted(names) == sorted(callees())
