"""A release that does not fit its pipelines' inputs is refused before it is taken; how a service tells refusals to its caller."""

from typing import Any

import pytest

from headrace.hop.errors import Code, Reason
from headrace.pipeline import Pipeline, parse
from headrace.releases import FrozenError, Release, ReleaseError, StaleError
from headrace.releases.document import validated
from headrace.releases.errors import UnreleasedError
from headrace.releases.faults import refused
from headrace.releases.inputs import attributes, check_inputs

DOCUMENT = """\
pipeline: flights
version: 3
deadline_ms: 100
inputs:
  carrier: string
  distance: float32
  seats: int32
  raw: bytes
  direct: bool
  embedding: {type: float32, shape: [4]}
stages:
  - model: m
    name: m
    inputs: {x: distance}
    outputs: {y: {column: y, type: float32}}
outputs: [y]
"""


def pipeline(text: str = DOCUMENT) -> Pipeline:
    return parse(text, "flights.yaml")


def release(**changes: Any) -> Release:
    arm = {"version": 3, "revision": "ab" * 32}
    values = {"pipeline": "flights", "number": 1, "arms": {"live": arm, "candidate": arm}, **changes}
    return validated("flights", values)


def rule(signal: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"name": "r", "when": {signal: condition}, "arm": "candidate"}]}


def problems(found: Release, **pipelines: Pipeline) -> list[str]:
    with pytest.raises(ReleaseError) as error:
        check_inputs(found, {"live": pipeline(), "candidate": pipeline(), **pipelines})
    assert error.value.pipeline == "flights"
    return list(error.value.problems)


FITTING: list[dict[str, Any]] = [
    {},
    rule("carrier", {"any": ["UA", "ü"]}),
    rule("raw", {"any": ["\u0000"]}),
    rule("direct", {"any": [True]}),
    rule("seats", {"any": [1, 2.0]}),
    rule("seats", {"min": 0.5}),
    rule("distance", {"max": 1e300}),
    rule("@tenant", {"any": ["acme"]}),
    rule("@priority", {"min": 5}),
    rule("@attribute/beta", {"any": ["yes"]}),
    {"assign": {"weights": {"live": 1}, "by": "raw"}},
    {"assign": {"weights": {"live": 1}, "by": "@tenant"}},
    {"partition": {"by": "seats"}},
    {"caps": {"session_by": "carrier", "session_rows_per_s": 5}},
]


@pytest.mark.parametrize("changes", FITTING, ids=str)
def test_what_fits_passes(changes: dict[str, Any]) -> None:
    check_inputs(release(**changes), {"live": pipeline(), "candidate": pipeline()})


WRONG: list[tuple[dict[str, Any], str]] = [
    (rule("carier", {"any": ["UA"]}), "rules[0].when.carier: the pipeline has no input 'carier'; did you mean 'carrier'?"),
    (rule("@tennant", {"any": ["a"]}), "rules[0].when.@tennant: the pipeline has no input '@tennant'; did you mean '@tenant'?"),
    (rule("@attribute/", {"any": ["a"]}), "rules[0].when.@attribute/: the pipeline has no input '@attribute/'"),
    (rule("carrier", {"any": ["UA", 3]}), "rules[0].when.carrier.any[1]: should be text, is 3"),
    (rule("carrier", {"min": 1}), "rules[0].when.carrier: is string, which has no min and max; use `any`"),
    (rule("direct", {"max": 1}), "rules[0].when.direct: is bool, which has no min and max; use `any`"),
    (rule("direct", {"any": [1]}), "rules[0].when.direct.any[0]: should be true or false, is 1"),
    (rule("seats", {"any": [1.5]}), "rules[0].when.seats.any[0]: should be an integer (int32), is 1.5"),
    (rule("seats", {"any": [1 << 40]}), "rules[0].when.seats.any[0]: 1099511627776 does not fit int32"),
    (rule("distance", {"any": [True]}), "rules[0].when.distance.any[0]: should be a number, is True"),
    (rule("embedding", {"min": 1}), "rules[0].when.embedding: is float32[4]; a rule reads single values"),
    (rule("@priority", {"any": ["high"]}), "rules[0].when.@priority.any[0]: should be an integer"),
    ({"assign": {"weights": {"live": 1}, "by": "tail"}}, "assign.by: the pipeline has no input 'tail'"),
    ({"assign": {"weights": {"live": 1}, "by": "embedding"}}, "assign.by: 'embedding' is float32[4]; a key is a single value"),
    ({"partition": {"by": "seat"}}, "partition.by: the pipeline has no input 'seat'; did you mean 'seats'?"),
    (
        {"caps": {"session_by": "session", "session_rows_per_s": 5}},
        "caps.session_by: the pipeline has no input 'session'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "problem"), WRONG, ids=lambda p: p[:40] if isinstance(p, str) else "")
def test_what_does_not_fit_is_named(changes: dict[str, Any], problem: str) -> None:
    [found] = problems(release(**changes))
    assert found.startswith(problem)


def test_an_arm_may_read_no_input_that_live_lacks() -> None:
    more = pipeline(DOCUMENT.replace("  carrier: string\n", "  carrier: string\n  gate: string\n"))
    [found] = problems(release(), candidate=more)
    assert found.startswith(
        "arms.candidate: its pipeline reads the input 'gate', which that of the arm 'live' does not"
    )
    other = pipeline(DOCUMENT.replace("seats: int32", "seats: int64"))
    assert problems(release(), candidate=other) == [
        "arms.candidate: its input 'seats' is int64, that of the arm 'live' is int32"
    ]
    fewer = pipeline(DOCUMENT.replace("  carrier: string\n", ""))
    check_inputs(release(), {"live": pipeline(), "candidate": fewer})


def test_all_problems_are_named_at_once() -> None:
    found = problems(release(assign={"weights": {"live": 1}, "by": "x"}, **rule("y", {"any": [1]})))
    assert [p.split(":")[0] for p in found] == ["assign.by", "rules[0].when.y"]
    with pytest.raises(ReleaseError, match=r"arms\.candidate: there is no pipeline document for it"):
        check_inputs(release(), {"live": pipeline()})


def test_the_attributes_that_rules_read_are_known() -> None:
    assert attributes(release(**rule("@attribute/beta", {"any": ["1"]}))) == {"beta"}
    assert attributes(release()) == frozenset()


def test_a_bound_is_a_finite_number() -> None:
    with pytest.raises(ReleaseError, match=r"rules\.0\.when\.seats"):
        release(**rule("seats", {"min": float("nan")}))


@pytest.mark.parametrize(
    ("error", "code", "reason", "more"),
    [
        (ReleaseError("p", ["a", "b"]), Code.INVALID_ARGUMENT, Reason.REASON_RELEASE_INVALID, {}),
        (StaleError("p", 3, 4), Code.ABORTED, Reason.REASON_RELEASE_STALE, {"number": "3"}),
        (UnreleasedError("p"), Code.NOT_FOUND, Reason.REASON_PIPELINE_UNKNOWN, {}),
        (
            FrozenError("p", "ann", "holiday"),
            Code.FAILED_PRECONDITION,
            Reason.REASON_RELEASE_FROZEN,
            {"author": "ann", "reason": "holiday"},
        ),
    ],
)
def test_each_error_has_its_code_and_names_the_pipeline(
    error: ReleaseError, code: Code, reason: int, more: dict[str, str]
) -> None:
    fault = refused(error)
    assert (fault.code, fault.reason) == (code, reason)
    assert fault.metadata.items() >= {"pipeline": "p", **more}.items()


def test_all_problems_are_said_and_bounded() -> None:
    assert refused(ReleaseError("p", ["a", "b"])).message == "a; b"
    assert len(refused(ReleaseError("p" * 1000, ["x" * 9000])).metadata["problems"]) == 1500
