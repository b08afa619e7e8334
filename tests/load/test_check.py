"""The verdict of `load check`: it fails for a build whose batching saves nothing, and for one that does not answer."""

from __future__ import annotations

import pytest

from load.scenarios.check import Cost, judge


def test_what_is_expected_passes_and_says_the_ratio() -> None:
    assert "8.00 times" in judge(off=Cost(8000, 1.0), on=Cost(1000, 1.0))


def test_batching_that_saves_too_little_fails() -> None:
    with pytest.raises(SystemExit, match=r"1\.90 times"):
        judge(off=Cost(1900, 1.0), on=Cost(1000, 1.0))


def test_a_build_that_leaves_requests_unanswered_fails() -> None:
    with pytest.raises(SystemExit, match="50%"):
        judge(off=Cost(8000, 1.0), on=Cost(1000, 0.5))
