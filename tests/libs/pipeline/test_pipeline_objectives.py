"""Objectives of a document: what they mean, and every mistake with its line."""

import pytest

from headrace.cli.commands.pipeline import objectives_text
from headrace.pipeline import LatencyObjective, Objectives, Pipeline
from tests.libs.pipeline.pipeline_documents import changed, complaints, parsed

DAY_US = 86_400_000_000


def with_objectives(text: str) -> str:
    return changed(("deadline_ms: 250", f"deadline_ms: 250\nobjectives: {text}"))


def pipeline(text: str) -> Pipeline:
    return parsed(with_objectives(text))


@pytest.mark.parametrize(
    ("text", "expected", "words"),
    [
        (
            "{availability: 0.999, latency: {p: 0.99, ms: 200}, window: 7d}",
            Objectives(0.999, LatencyObjective(0.99, 200), 7 * DAY_US),
            "99.9 % answered, 99 % within 200 ms, over 7d",
        ),
        ("{availability: 0.99}", Objectives(0.99, None, 30 * DAY_US), "99 % answered, over 30d"),
        (
            "{latency: {p: 0.5, ms: 250}}",
            Objectives(None, LatencyObjective(0.5, 250), 30 * DAY_US),
            "50 % within 250 ms, over 30d",
        ),
    ],
)
def test_objectives_say_what_they_say(text: str, expected: Objectives, words: str) -> None:
    found = pipeline(text).objectives
    assert found == expected
    assert objectives_text(expected) == words


def test_the_error_budget_is_what_availability_leaves() -> None:
    assert Objectives(0.75, None, 1).error_budget == 0.25
    assert Objectives(None, None, 1).error_budget is None


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("{}", "objectives", "needs the key 'availability' or 'latency'"),
        ("99", "objectives", "should be a mapping"),
        ("{availability: 1}", "objectives.availability", "above 0.5 and below 1"),
        ("{availability: high}", "objectives.availability", "should be a number"),
        ("{availability: true}", "objectives.availability", "should be a number"),
        ("{availabilty: 0.9}", "objectives.availabilty", "did you mean 'availability'?"),
        ("{latency: {p: 0.99}}", "objectives.latency", "needs the key 'ms'"),
        ("{latency: {p: 99, ms: 200}}", "objectives.latency.p", "above 0 and below 1"),
        ("{latency: {p: 0.9, ms: 251}}", "objectives.latency.ms", "from 1 to 250"),
        ("{latency: {p: 0.9, ms: 1.5}}", "objectives.latency.ms", "should be an integer"),
        ("{availability: 0.9, window: 30}", "objectives.window", "should be a duration"),
        ("{availability: 0.9, window: 1m}", "objectives.window", "should be from 1h to 90d"),
    ],
)
def test_mistakes_are_named(text: str, at: str, message: str) -> None:
    found = complaints(with_objectives(text))
    assert any(f.split(":", 1)[1].strip().startswith(f"{at}:") and message in f for f in found), found


def test_guards_do_what_a_document_says() -> None:
    def text(guards: str) -> str:
        return changed(("deadline_ms: 250", f"deadline_ms: 250\nguards: {{{guards}}}"))

    assert parsed(text("shift: tell, wrong: go_back")).guards == {"shift": "tell", "wrong": "go_back"}
    for guards, said in (
        ("shif: tell", "5: guards.shif: there is no guard 'shif'; did you mean 'shift'?"),
        ("shift: off", "5: guards.shift: 'off' is not one of go_back, pause, tell"),
    ):
        assert complaints(text(guards)) == [said]


def test_segments_are_inputs_with_few_values() -> None:
    def text(named: str) -> str:
        return changed(("deadline_ms: 250", f"deadline_ms: 250\nsegments: [{named}]"))

    assert parsed(text("name")).segments == ("name",)
    for named, said in (("nam", "there is no input"), ("size", "needs `choices`"), ("blob", "no `pii`")):
        assert any(said in line for line in complaints(text(named)))
    many = text("name").replace("[ann, bob]", str([f"n{i}" for i in range(51)]))
    assert any("at most 50 segments" in line for line in complaints(many))
