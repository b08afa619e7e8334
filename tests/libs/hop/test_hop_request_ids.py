"""Keys of requests: safe tokens, one for each id."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.events import split_prediction_id
from headrace.hop.request_ids import request_key


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_a_key_is_a_token_of_its_own_and_its_own_key(one: str, other: str) -> None:
    key = request_key(one)
    assert re.fullmatch(r"[A-Za-z0-9._:\-]{1,128}", key)
    assert request_key(key) == key
    assert (key == request_key(other)) == (one == other)


@pytest.mark.parametrize("own", ["a", "order-12:x_y.z", "x" * 128])
def test_a_token_is_its_own_key(own: str) -> None:
    assert request_key(own) == own


def test_a_prediction_is_named_by_either() -> None:
    assert split_prediction_id("a/b #1/7") == split_prediction_id(f"{request_key('a/b #1')}/7")
