"""The kinds of stages are named in the rooms of their files alone, so that a new one touches no other file."""

import re
from pathlib import Path

from headrace.pipeline import STAGE_KINDS
from services.router.stages.registry import RUNNER_KINDS, callees
from services.router.wiring import SERVICE

ROOT = Path(__file__).parents[2]
OUTSIDE = [
    path
    for folder in ("services/router", "libs/headrace/pipeline")
    for path in sorted((ROOT / folder).rglob("*.py"))
    # The public names of the library are listed in its __init__.
    if path.parent.name != "stages" and path != ROOT / "libs/headrace/pipeline/__init__.py"
]


def test_no_other_module_names_a_kind() -> None:
    types = {f"{name.capitalize()}{what}" for name in (*STAGE_KINDS, "steps") for what in ("Stage", "Runner")}
    named = [
        f"{path.relative_to(ROOT)}:{number}: {kind}"
        for path in OUTSIDE
        for number, line in enumerate(path.read_text().splitlines(), 1)
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
