"""The list of end-to-end tests that machines can't run is true."""

import ast
from pathlib import Path

from tests.machines.one_home import BOUND

PIPELINE = Path(__file__).parents[1] / "pipeline"


def test_what_is_bound_is_there_and_says_why() -> None:
    for name, why in BOUND.items():
        file, _, test = name.partition("::")
        nodes = ast.walk(ast.parse((PIPELINE / file).read_text()))
        there = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not test or (test in there and test.startswith("test_")), name
        assert not test or file not in BOUND, f"{name}: the whole file is bound"
        assert len(why.split()) > 1, name
