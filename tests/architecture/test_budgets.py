"""Budgets: what the project holds may not grow past `budgets.toml`, and what has shrunk for good is lowered there."""

import ast
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.generations import older
from tests.golden.names import current

ROOT = Path(__file__).parents[2]
BUDGETS: dict[str, int] = tomllib.loads(Path(__file__).with_name("budgets.toml").read_text())
NOT_BY_HAND = re.compile(
    r"\.(lock|png|onnx|sig|pub|binpb)$|vendored/|LICENSE$|_pb2|^load/(flights_inputs|capacity)\.json$"
    r"|^tests/golden/(\w+\.txt$|resources/)|^tests/LEDGER\.jsonl$"
)
# The field has terms for these: CONTRIBUTING.md, Names.
PRIVATE = re.compile(
    r"(^|_)(kept|keep|told|tell|ask(ed|s)?|looks?|takes?|took|shown?|shows?|put|away|began|noted?|eyes?|beside|whoever)(_|$)",
    re.IGNORECASE,
)
RUN = 6
# Whose growth explains a measure.
KINDS = {
    "product_lines": ("product",),
    "test_lines": ("test",),
    "private_names_tests": ("test",),
    "document_words": ("document",),
}
GROWN_FILES_SHOWN = 12


@cache
def sources() -> dict[str, str]:
    """The tracked texts that are written by hand, by their paths."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [path for path in listed.splitlines() if (ROOT / path).is_file() and not NOT_BY_HAND.search(path)]
    return {path: (ROOT / path).read_text() for path in paths}


def kind(path: str) -> str:
    if path.endswith(".md"):
        return "document"
    if path.startswith("tests/"):
        return "test"
    return "product" if path.endswith(".py") else "other"


def of(*kinds: str, ending: str = "") -> dict[str, str]:
    return {path: text for path, text in sources().items() if kind(path) in kinds and path.endswith(ending)}


def lines(*kinds: str) -> int:
    return sum(len(text.splitlines()) for text in of(*kinds).values())


def private(name: str) -> bool:
    return PRIVATE.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) is not None


def private_names(where: str) -> int:
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    nodes = (n for text in of(where, ending=".py").values() for n in ast.walk(ast.parse(text)))
    return sum(private(node.name) for node in nodes if isinstance(node, defined))


def identical_runs() -> list[str]:
    """Where each run of lines of code begins that stands a second time, the same to the letter."""
    code = {path: list(_code(text)) for path, text in of("product").items()}
    places: defaultdict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for path, found in code.items():
        for start in range(len(found) - RUN + 1):
            places[tuple(line for _, line in found[start : start + RUN])].append((path, start))
    pairs = {(a, b) for where in places.values() for i, a in enumerate(where) for b in where[i + 1 :]}
    # Where the pair one line above is no pair, a run begins.
    begun = sorted(((p, i), (q, j)) for (p, i), (q, j) in pairs if ((p, i - 1), (q, j - 1)) not in pairs)
    return [f"{p}:{code[p][i][0]} ~ {q}:{code[q][j][0]}" for (p, i), (q, j) in begun]


def _code(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) without what says nothing: blank lines, comments, imports, punctuation."""
    imported = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        imported = bare != ")" and (imported or re.match(r"from \S+ import \($", bare) is not None)
        if not imported and re.search(r"\w", bare) and not re.match(r"#|import |from \S+ import", bare):
            yield number, bare


MEASURES: dict[str, Callable[[], int]] = {
    "product_lines": lambda: lines("product"),
    "all_lines": lambda: lines("product", "other"),
    "test_lines": lambda: lines("test"),
    "document_words": lambda: sum(len(text.split()) for text in of("document").values()),
    "commands": lambda: sum(" -" not in name and " <" not in name for name in current("commands")),
    "settings": lambda: len({name.partition(": ")[2] for name in current("settings")}),
    "metrics": lambda: sum(name.startswith("headrace_") for name in current("metrics")),
    "identical_runs": lambda: len(identical_runs()),
    "private_names_product": lambda: private_names("product"),
    "private_names_tests": lambda: private_names("test"),
}


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_grows_past_its_budget(name: str) -> None:
    found, budget = MEASURES[name](), BUDGETS[name]
    assert found <= budget, (
        f"{name}: {found}, {found - budget} more than tests/architecture/budgets.toml allows. What to do: delete what your"
        f" change makes needless, or use what is there; only the text of an issue raises a budget. {_details(name)}"
    )


def test_each_budget_is_counted() -> None:
    assert BUDGETS.keys() - MEASURES.keys() == {"walk_files"}, (
        "walk_files: load.micro.request_walk, in .ci/run"
    )


@pytest.mark.parametrize("name", ["asked_rows", "RowsAsked", "take", "_shown_first", "whoever"])
def test_a_private_word_is_found(name: str) -> None:
    assert private(name)


@pytest.mark.parametrize("name", ["task", "taken_over", "Lookup", "input", "output", "reshown"])
def test_a_word_that_only_contains_one_is_not(name: str) -> None:
    assert not private(name)


def _details(name: str) -> str:
    if name == "identical_runs":
        return "\n".join(identical_runs())
    listed = subprocess.run(
        ["git", "diff", "--numstat", older.OLD, "--"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    rows = [line.split("\t") for line in listed.splitlines() if line[0].isdigit()]
    rows = [row for row in rows if row[2] in of(*KINDS.get(name, ("product", "other")))]
    grown = sorted(((int(new) - int(old), path) for new, old, path in rows), reverse=True)
    return "The files that grew most since the last landed issue:\n" + "\n".join(
        f"{lines:+6} {path}" for lines, path in grown[:GROWN_FILES_SHOWN]
    )
