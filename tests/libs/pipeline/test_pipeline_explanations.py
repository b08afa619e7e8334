"""The key `explanations` of a document, and the part of a pipeline that leads to an output."""

from pathlib import Path

import pytest

from headrace.pipeline import DocumentError, ExplanationRule, Pipeline, load, parse, plan, towards

TEXT = """\
pipeline: p
version: 1
deadline_ms: 100
inputs: {user: string, x: {type: int32}, unused: float32}
stages:
  - features: store
    feature_service: users
    entities: [user]
    views: {u: {features: {age: float64}, on_missing: default}}
  - preprocessing: prepare
    steps:
      - impute: {columns: {age: 30.0}}
      - assemble: {columns: [x, age], into: input}
    outputs: {input: {type: float32, shape: [2]}}
  - model: m
    name: m
    inputs: {i: input}
    outputs: {y: {column: y, type: float32}}
  - postprocessing: last
    steps: [threshold: {column: y, at: 0.5, into: late}]
    outputs: {late: bool}
outputs: [late, y, user, age]
"""


def parsed(explanations: str) -> Pipeline:
    return parse(f"{TEXT}explanations: {explanations}\n", "p.yaml")


def test_says_what_it_says() -> None:
    found = parsed("{coverage: 0.1, output: late, base: {x: 3, age: 41.5}}").explanations
    assert found == ExplanationRule(0.1, "late", {"x": 3, "age": 41.5})
    assert parsed("{demanded: true}").explanations == ExplanationRule(1.0, "y")


def test_the_first_number_is_explained_unless_another_output_is_named() -> None:
    assert parsed("{}").explanations == ExplanationRule(0.0, "y")
    assert parsed("{}\nregulated: true").explanations == ExplanationRule(1.0, "y")
    assert parse(TEXT, "p.yaml").explanations is None


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("{output: user}", "explanations.output", "'user' is no output that is one number or truth value"),
        ("{output: lat}", "explanations.output", "did you mean 'late'"),
        ("{output: age}", "explanations", "depends on no input"),
        ("{base: {unused: 1}}", "explanations.base.unused", "the output depends on"),
        ("{base: {agee: 1}}", "explanations.base.agee", "did you mean 'age'"),
        ("{base: {x: 1.5}}", "explanations.base.x", "should be an integer"),
        ("{base: {age: old}}", "explanations.base.age", "should be a number"),
        ("{demanded: often}", "explanations.demanded", "true or false"),
        ("{coverage: 2}", "explanations.coverage", "at most 1"),
        ("{coverage: 0.5}\nregulated: true", "explanations.coverage", "all predictions of a regulated"),
        ("{demand: true}", "explanations", "demand"),
    ],
)
def test_each_mistake_is_named(text: str, place: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parsed(text)
    [problem] = caught.value.problems
    assert problem.key.startswith(place)
    assert message in problem.message


def test_nothing_leads_to_an_output_but_what_it_needs() -> None:
    pipeline = parse(TEXT, "p.yaml")
    found = towards(plan(pipeline), "y")
    assert [s.stage.name for s in found.plan.stages] == ["prepare", "m"]
    assert (found.positions, found.reads) == ((1, 2), ("x", "age"))
    assert [s.after for s in found.plan.stages] == [(), (0,)]


def test_what_is_known_is_not_made_again() -> None:
    whole = plan(load(Path("deploy/pipelines/moderation/pipeline.yaml")))
    found = towards(whole, "nsfw", {"input"})
    assert [s.stage.name for s in found.plan.stages] == ["nsfw", "verdict"]
    assert found.reads == ("input",)
    assert towards(whole, "nsfw").reads == ("image",)
