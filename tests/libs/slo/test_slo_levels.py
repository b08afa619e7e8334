"""Burn rates: factors, windows and shares fit each other, and what can never alert is refused."""

import pytest

from headrace.pipeline import Problem
from headrace.slo import LEVELS, PAGE, TICKET, problems
from headrace.slo.levels import least_target
from tests.libs.pipeline.pipeline_documents import changed, parsed

DAY_S = 86_400.0


def test_the_levels_are_those_of_the_workbook() -> None:
    """And those of the seed, at 2 and 1.1. Pages come first, as what stands before silences what stands behind."""
    shares = [(level, round(level.factor * level.long_s / (30 * DAY_S), 3)) for level in LEVELS]
    assert [
        (level.factor, level.severity, level.long_s, level.short_s, share) for level, share in shares
    ] == [
        (14.4, PAGE, 3600, 300, 0.02),
        (6, PAGE, 21_600, 1800, 0.05),
        (2, PAGE, 21_600, 1800, 0.017),
        (3, TICKET, DAY_S, 7200, 0.1),
        (1.1, TICKET, 3 * DAY_S, 21_600, 0.11),
        (1, TICKET, 3 * DAY_S, 21_600, 0.1),
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{availability: 0.93}", "objectives.availability"),
        ("{latency: {p: 0.9, ms: 100}}", "objectives.latency.p"),
    ],
)
def test_a_promise_that_could_never_alert_is_a_problem_of_its_key(text: str, key: str) -> None:
    def found(text: str) -> list[Problem]:
        return problems(parsed(changed(("deadline_ms: 250", f"deadline_ms: 250\nobjectives: {text}"))))

    (one,) = found(text)
    assert one.key == key
    assert f"at least {least_target():.4f}" in one.message
    assert one.line > 1
    for other in ("{availability: 0.9306}", "{availability: 0.99999}", "{latency: {p: 0.95, ms: 100}}"):
        assert found(other) == []
