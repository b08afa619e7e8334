"""Documents for the tests of the pipeline library."""

from collections.abc import Iterable

from headrace.pipeline import DocumentError, Pipeline, Problem, parse

SMALL = """\
pipeline: small
version: 2
description: A small pipeline
deadline_ms: 250
inputs:
  name: {type: string, max_bytes: 8, choices: [ann, bob]}
  size: {type: int32, range: [1, 9]}
  weight: {type: float32, default: 1.5}
  vector: {type: float64, shape: [2, 2], required: false}
  blob: {type: bytes, max_bytes: 4, required: false, pii: true}
stages:
  - features: store
    feature_service: people
    entities: [name]
    views:
      person: {features: {age: float64}, on_missing: refuse}
  - preprocessing: prepare
    steps:
      - impute: {columns: {age: 30.0}}
      - assemble: {columns: [size, weight, age], into: input}
    outputs: {input: {type: float32, shape: [3]}}
  - model: score
    name: scorer
    version: "7"
    inputs: {x: input}
    outputs: {y: {column: probability, type: float32}}
  - postprocessing: finish
    steps: [threshold: {column: probability, at: 0.5, into: yes_or_no}]
    outputs: {yes_or_no: bool}
outputs: [yes_or_no, probability, name]
"""


def parsed(text: str = SMALL) -> Pipeline:
    return parse(text, "small.yaml")


def complaints(text: str) -> list[str]:
    """`line: key: message` of each problem; [] if there is none."""
    return [f"{p.line}: {p.key}: {p.message}" for p in problems(text)]


def problems(text: str) -> tuple[Problem, ...]:
    """What is wrong with a document."""
    try:
        parse(text, "small.yaml")
    except DocumentError as error:
        return error.problems
    return ()


def changed(*pairs: tuple[str, str], text: str = SMALL) -> str:
    """The document with each first text replaced by the second."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def line_of(part: str, text: str = SMALL) -> int:
    """Number of the first line that has `part`."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def with_inputs(lines: Iterable[str]) -> Pipeline:
    """A pipeline with these inputs that answers with the first of them."""
    declared = list(lines)
    first = declared[0].split(":")[0]
    inputs = "\n".join(f"  {line}" for line in declared)
    return parse(
        f"""\
pipeline: inputs
version: 1
deadline_ms: 100
inputs:
{inputs}
stages:
  - model: m
    name: m
    inputs: {{x: {first}}}
    outputs: {{y: y}}
outputs: [{first}]
""",
        "inputs.yaml",
    )
