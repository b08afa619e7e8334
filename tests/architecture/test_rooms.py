"""The rules that no linter states: which files may know grpc and generated code, how long they may be, why they differ."""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(p.parent for p in (ROOT / "services").glob("*/wiring.py"))
# The modules of a service that face the wire; all others are domain logic.
WIRE_MODULES = {"servicer.py", "clients.py", "wiring.py", "__main__.py"}
# Whole folders of them: the ingress translates protocols, a backend of the executor may be remote, a stage calls a service.
WIRE_ROOMS = {
    "ingress": {"oip", "predict", "protocols", "releases"},
    "executor": {"backends"},
    "router": {"stages"},
}
LONGEST_FILE = 400
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
    generated = {ROOT / "libs/headrace/api", ROOT / "libs/headrace/oip"}
    return {str(p.relative_to(ROOT)): p.read_text() for p in found if not generated & set(p.parents)}


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
        # The ingress serves two APIs: a folder for each.
        if not (service / f).exists() and not (f == "servicer.py" and (service / "oip/service.py").exists())
    ]
    assert missing == []
    assert len((service / "__main__.py").read_text().splitlines()) <= 30
    assert len((service / "README.md").read_text().splitlines()) <= 80


def files_in_the_folders_of_a_readme(readme: Path) -> set[str]:
    """Paths like "server/serve.py" in the first column of its tables, whose head names the folder (`hop/`: the top)."""
    found, folder = set(), ""
    for line in readme.read_text().splitlines():
        first = line.split("|")[1] if line.startswith("|") else ""
        if head := re.fullmatch(r" `(\w+)/` ", first):
            folder = "" if head[1] == readme.parent.name else f"{head[1]}/"
        found |= {folder + file for file in re.findall(r"`(\w+\.py)`", first)}
    return found


def test_the_readme_of_hop_names_all_that_is_in_it() -> None:
    hop = ROOT / "libs/headrace/hop"
    there = {str(p.relative_to(hop)) for p in hop.rglob("*.py") if p.name != "__init__.py"}
    assert files_in_the_folders_of_a_readme(hop / "README.md") == there
    text = (hop / "README.md").read_text()
    known = {p.name for p in hop.rglob("*.py")} | there
    assert sorted(f for f in re.findall(r"[\w/]*\w\.py\b", text) if f not in known) == []


def test_no_two_files_of_tests_have_one_name() -> None:
    """`make test-slow` collects all at once, and pytest imports tests by their bare names."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [n for n, count in names.items() if count > 1] == []
