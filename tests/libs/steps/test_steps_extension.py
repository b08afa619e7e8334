"""Adding a step: its own file and a row in the registry, or an entry point of another package, and nothing else."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

import headrace.steps
from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows, decode, encode
from headrace.hop.errors import Reason
from headrace.hop.testing import served
from headrace.pipeline import check, parse
from headrace.steps import Frame, Options, SpecError, compile_steps, registry, spec_json, spec_sha256
from headrace.steps.step import OneColumn
from headrace.steps.value_ranges import Known, Values
from services.preprocessing.wiring import SERVICE
from services.router.stages.steps import TRANSFORM

SPEC = {"steps": [{"dummy": {"column": "n", "by": 2, "into": "t"}}], "outputs": {"t": "float64"}}


@dataclass(frozen=True, slots=True)
class Dummy(OneColumn):
    """`dummy: {column, by, into?}`: the number times `by`, in float64."""

    by: float
    made = DType.FLOAT64
    weight = 1 << 20  # never on the event loop

    @classmethod
    def read(cls, options: Options) -> Dummy:
        return cls(*options.target(), options.number("by"))

    def flow(self, known: Known) -> None:
        known.into(self.column, DType.FLOAT64, ".column", "give it a `range`")
        known.put(self.into, Values(DType.FLOAT64))

    def run(self, frame: Frame) -> None:
        values, valid = frame.numbers(self.column)
        frame.refuse_values(values == 13, valid, self.column, f"{self.column!r} is 13")
        frame.put(self.into, values * self.by, valid)


@pytest.fixture(params=["built in", "entry point"], autouse=True)
def _added(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only thing that changes: one row of the registry, or one entry point of an installed package."""
    if request.param == "built in":
        row = registry.BuiltIn(Dummy.read, ("preprocessing",))
        monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "dummy": row})
        return
    entry = EntryPoint("dummy", f"{__name__}:Dummy.read", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **keys: EntryPoints([entry]).select(**keys))


def test_a_program_runs_it_and_knows_its_columns_types_and_weight() -> None:
    program = compile_steps("preprocessing", SPEC)
    assert (program.reads, dict(program.writes), program.weight) == (("n",), {"t": DType.FLOAT64}, 1 << 20)
    valid = np.array([True, True, False])
    result = program.run({"n": Column.of("n", np.array([1, 13, 13], np.int32), valid)}, 3)
    assert result.columns["t"].array.tolist() == [2, 26, 26]
    assert {row: e.reason for row, e in result.errors.items()} == {1: Reason.REASON_INPUT_RANGE}


@pytest.mark.parametrize(
    ("step", "path", "message"),
    [
        ({"dumy": {}}, "steps[0].dumy", "did you mean dummy?"),
        ({"dummy": {"column": "n", "by": "2"}}, "steps[0].dummy.by", "should be a finite number"),
        (
            {"dummy": {"column": "n", "by": 2, "bi": 3}},
            "steps[0].dummy.bi",
            "is no option here; there are by, column, into",
        ),
    ],
)
def test_its_name_and_its_options_are_checked(step: dict[str, object], path: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_steps("preprocessing", {**SPEC, "steps": [step]})
    assert (caught.value.path, str(caught.value).endswith(message)) == (path, True)


@pytest.mark.parametrize(
    ("inputs", "refused"), [("int64", True), ("{type: int64, range: [0, 9]}", False), ("int32", False)]
)
def test_the_check_of_a_pipeline_knows_which_values_it_makes(inputs: str, refused: bool) -> None:
    document = f"""\
pipeline: whole
version: 1
deadline_ms: 100
inputs:
  n: {inputs}
stages:
  - preprocessing: prepare
    steps:
      - dummy: {{column: n, by: 2, into: t}}
    outputs: {{t: float64}}
outputs: [t]
"""
    problems = [p.key for p in check(parse(document, "whole.yaml"), None, None)]
    assert problems == ["stages[0].steps[0].dummy.column"] * refused


async def test_the_service_runs_it() -> None:
    rows = Rows.one_request(2, "r", "tenant", time.monotonic() + 60)
    batch = encode(Batch.of(rows, [Column.of("n", np.array([1.5, 2]))]))
    request = pb.TransformRequest(spec_sha256=spec_sha256(SPEC), spec=spec_json(SPEC), batch=batch)
    async with served(SERVICE) as harness:
        reply = await harness.client().unary(TRANSFORM)(request, deadline=time.monotonic() + 60)
    assert decode(reply.batch).columns["t"].array.tolist() == [3, 4]


def test_the_readme_lists_exactly_the_built_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the dummy is in no README
    text = (Path(headrace.steps.__path__[0]) / "README.md").read_text()
    listed: dict[str, str] = {}
    for names, file, kinds in re.findall(r"^\| (`.+`) \| `builtin/(\S+)` \| (\w+) \|", text, re.MULTILINE):
        assert (Path(headrace.steps.__path__[0]) / "builtin" / file).exists()
        listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), kinds)
    words: dict[tuple[registry.Kind, ...], str] = {("preprocessing",): "pre", ("postprocessing",): "post"}
    assert listed == {name: words.get(step.kinds, "both") for name, step in registry.BUILT_IN.items()}
