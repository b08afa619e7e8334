"""A newcomer finds the place of a line by folder names: few modules on a floor, named by nouns of the field."""

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / name for name in ("libs/headrace", "services", "load")]
GENERATED = {ROOT / "libs/headrace/api", ROOT / "libs/headrace/oip"}
MOST_MODULES = 12
# Nouns of the field, or of Python, that end so; `returning` goes with the linger that it decides.
NOUNS = {"binding", "hosting", "outgoing", "returning", "ring", "scaling", "testing", "tracing", "wiring"}


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
