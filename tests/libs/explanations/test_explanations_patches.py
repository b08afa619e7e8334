"""Patches of an image: each pixel is in one; what each adds, and the rest, are the whole difference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.explanations import ExplanationError, Patches, occluded
from headrace.explanations.patches import BLANK

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.integers(1, 9), st.integers(1, 9))
def test_each_pixel_is_in_one_patch(height: int, width: int, rows: int, columns: int) -> None:
    patches = Patches(height, width, min(rows, height), min(columns, width))
    pixels = np.zeros((height, width, 3), np.uint8)
    images = patches.images(pixels, patches.masks())
    assert images.shape == (len(patches) + 2, height, width, 3)
    assert (images[0] == BLANK).all()
    assert (images[-1] == 0).all()
    blank = (images[1:-1] == BLANK).all(axis=3)
    assert (blank.sum(axis=0) == 1).all()
    sizes = blank.sum(axis=(1, 2))
    assert sizes.min() > 0
    # In each direction they differ by one pixel at most.
    tall, wide = blank.any(axis=2).sum(axis=1), blank.any(axis=1).sum(axis=1)
    assert max(np.ptp(tall), np.ptp(wide)) <= 1


def test_names_say_row_and_column() -> None:
    patches = Patches(4, 6, 2, 3)
    assert patches.names("x") == ("x[0,0]", "x[0,1]", "x[0,2]", "x[1,0]", "x[1,1]", "x[1,2]", "x[rest]")
    pixels = np.zeros((4, 6, 3), np.uint8)
    # The fifth patch is in the second row, the second column.
    image = patches.images(pixels, patches.masks()[5:6])[0]
    assert (image[2:4, 2:4] == BLANK).all()
    assert image.sum() == BLANK * 2 * 2 * 3


def test_what_patches_do_only_together_is_the_rest() -> None:
    # The output is 1 if both halves are seen: each alone takes all of it away.
    found = occluded(np.array([0.0, 0.0, 0.0, 1.0]))
    assert found.values.tolist() == [1.0, 1.0, -1.0]


@given(st.lists(st.floats(-1e9, 1e9, width=32), min_size=3, max_size=60))
def test_all_together_are_the_difference(outputs: list[float]) -> None:
    found = occluded(np.array(outputs))
    largest = max(map(abs, outputs))
    assert math.fsum(found.values) == pytest.approx(found.value - found.base, rel=1e-15, abs=1e-15 * largest)
    assert (found.base, found.value) == (outputs[0], outputs[-1])


def test_a_grid_that_does_not_fit_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ExplanationError, match="does not fit"):
        Patches(4, 4, 5, 1)
    with pytest.raises(ExplanationError, match="at most 255"):
        Patches(100, 100, 16, 16)
    with pytest.raises(ExplanationError, match="finite"):
        occluded(np.array([0.0, np.nan, 1.0]))
