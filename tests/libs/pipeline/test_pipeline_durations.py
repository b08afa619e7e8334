"""Durations: what they mean, and that nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.document.durations import duration_text, parse_duration

SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3h", 10800),
        ("90m", 5400),
        ("1d12h", 129600),
        ("1h30m15s", 5415),
        ("500ms", 0.5),
        ("2m5ms", 120.005),
        ("0s", 0),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds * SECOND_US


@pytest.mark.parametrize(
    "text", ["", "3", "h", "3 h", "-3h", "1.5h", "3hours", "30m1h", "1h1h", "3H", "1h ", "٣h"]
)
def test_what_lacks_a_unit_or_is_out_of_order_is_none(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(1, 10**15))
def test_a_text_tells_the_two_longest_parts(milliseconds: int) -> None:
    us = milliseconds * 1000
    told = parse_duration(duration_text(us))
    assert told is not None
    assert told <= us
    # What is left out is less than the shorter of two units that follow each other, of which 60 s : 1000 ms is the widest.
    assert us - told < us / 24
