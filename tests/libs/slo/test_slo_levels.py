"""Burn rates: factors, windows and shares fit each other for every period, and what can never alert is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.slo import LEVELS, PAGE, TICKET, levels, problems
from headrace.slo.levels import PERIOD_S, least_target
from tests.libs.slo.slo_documents import promising

DAY_S = 86_400.0


def test_the_levels_of_thirty_days_are_those_of_the_workbook() -> None:
    """And those of the seed, at 2 and 1.1. Pages come first, as what stands before silences what stands behind."""
    shares = [(level, round(level.share(PERIOD_S), 3)) for level in levels(PERIOD_S, 15)]
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


@given(period=st.floats(3600, 90 * DAY_S), scrape=st.integers(1, 60))
def test_windows_hold_enough_scrapes_and_keep_their_share(period: float, scrape: int) -> None:
    for level, usual in zip(levels(period, scrape), LEVELS, strict=True):
        assert level.short_s >= 4 * scrape
        assert level.long_s >= 2 * level.short_s or level.long_s >= 8 * scrape
        if usual.long_s * period / PERIOD_S > 100 * scrape:
            assert level.share(period) == pytest.approx(usual.share(PERIOD_S), rel=0.1)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{availability: 0.93}", "objectives.availability"),
        ("{latency: {p: 0.9, ms: 100}}", "objectives.latency.p"),
    ],
)
def test_a_promise_that_could_never_alert_is_a_problem_of_its_key(text: str, key: str) -> None:
    (found,) = problems(promising(text))
    assert found.key == key
    assert f"at least {least_target():.4f}" in found.message
    assert found.line > 1
    for other in ("{availability: 0.9306}", "{availability: 0.99999}", "{latency: {p: 0.95, ms: 100}}"):
        assert problems(promising(other)) == []
