"""Sketches: what they count, and that merged ones equal one that saw everything."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.sketches import CategoryColumn, Layout, LayoutError, NumberColumn, Sketch
from headrace.sketches.frequent import SpaceSaving
from headrace.sketches.layout import separated

EDGES = separated([-1.5, -0.2, 0.0, 0.7, 3.0])
LAYOUT = Layout(
    (
        NumberColumn("x", EDGES, low=-2.0, high=4.0),
        NumberColumn("flag", (0.5,), low=0.0, high=1.0),
        CategoryColumn("carrier", ("UA", "AA")),
    )
)
values = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, -1.5, 0.7]))
rows = st.lists(st.tuples(values, st.booleans(), st.sampled_from(["UA", "AA", "ZZ", "", None])), max_size=60)


def columns(found: list[Any]) -> dict[str, Any]:
    return {
        "x": [r[0] for r in found],
        "flag": np.array([r[1] for r in found], bool),
        "carrier": [r[2] for r in found],
    }


def sketched(found: list[Any], layout: Layout = LAYOUT) -> Sketch:
    made = Sketch(layout)
    made.update(columns(found), len(found))
    return made


def same(a: Sketch, b: Sketch) -> bool:
    arrays = zip(a.numbers.arrays().values(), b.numbers.arrays().values(), strict=True)
    categories = zip(a.categories.values(), b.categories.values(), strict=True)
    return (
        a.rows == b.rows
        and all(np.array_equal(x, y) for x, y in arrays)
        and all(x.to_json() == y.to_json() for x, y in categories)
    )


@given(rows, rows)
@settings(max_examples=50)
def test_two_replicas_merged_equal_one_to_the_last_bit(one: list[Any], two: list[Any]) -> None:
    merged = sketched(one)
    merged.merge(sketched(two))

    assert same(merged, sketched([*one, *two]))
    assert same(merged, sketched([*two, *one]))


@given(rows)
def test_counts_are_those_of_the_values(found: list[Any]) -> None:
    figures, there = sketched(found).number("x"), [r[0] for r in found if r[0] is not None]
    finite = [v for v in there if math.isfinite(v)]

    assert (figures.rows, figures.nulls) == (len(found), len(found) - len(there))
    assert figures.non_finite == len(there) - len(finite)
    assert figures.out_of_range == sum(v < -2 or v > 4 for v in finite)
    expected = np.bincount(np.searchsorted(EDGES, finite, side="right"), minlength=len(EDGES) + 1)
    assert figures.bins == tuple(expected.tolist())


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40, unique=True),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
)
def test_the_table_finds_the_bin_that_a_search_finds(edges: list[float], found: list[float]) -> None:
    apart = separated(edges)
    sketch = Sketch(Layout((NumberColumn("x", apart),)))
    # The edges themselves and their neighbours are where rounding would show.
    tried = np.array([*found, *apart, *np.nextafter(apart, np.inf), *np.nextafter(apart, -np.inf)])
    sketch.update({"x": tried}, len(tried))

    places = np.searchsorted(apart, tried, side="right")
    assert sketch.number("x").bins == tuple(np.bincount(places, minlength=len(apart) + 1).tolist())


def test_categories_outside_the_vocabulary_are_unseen_and_named() -> None:
    found = sketched([(1.0, True, c) for c in ("UA", "UA", "ZZ", "ZZ", "YY", None, "")]).category("carrier")

    assert (found.rows, found.nulls) == (7, 1)
    assert found.counts == (2, 0)
    assert found.unseen == 4
    assert found.frequent[0] == ("ZZ", 2)


def test_a_column_that_is_missing_counts_as_nulls_and_one_that_is_not_named_stays_out() -> None:
    sketch = Sketch(LAYOUT)
    sketch.update({"x": None, "carrier": None, "other": [1, 2]}, 2)

    assert sketch.number("x").nulls == sketch.category("carrier").nulls == 2
    assert sketch.number("flag").rows == 0


def test_texts_among_numbers_are_not_finite() -> None:
    sketch = Sketch(LAYOUT)
    sketch.update({"x": ["a", 1, None, 10**400]}, 4)
    assert (sketch.number("x").non_finite, sketch.number("x").nulls) == (2, 1)


def test_masked_values_are_nulls() -> None:
    sketch = Sketch(LAYOUT)
    sketch.update({"x": np.ma.MaskedArray([1.0, np.nan, 2.0], [False, True, False])}, 3)
    assert (sketch.number("x").nulls, sketch.number("x").non_finite) == (1, 0)


def test_a_batch_with_a_column_of_another_length_changes_nothing() -> None:
    sketch = Sketch(LAYOUT)
    with pytest.raises(ValueError, match="column flag has 1 values for 2 rows"):
        sketch.update({"x": [1.0, 2.0], "flag": [True]}, 2)
    assert same(sketch, Sketch(LAYOUT))


@given(rows)
@settings(max_examples=20)
def test_bytes_bring_it_back(found: list[Any]) -> None:
    sketch = sketched(found)
    assert same(Sketch.from_bytes(sketch.to_bytes(), LAYOUT), sketch)


def test_damaged_bytes_and_other_layouts_are_refused() -> None:
    content = sketched([(1.0, True, "UA")]).to_bytes()
    other = Layout((NumberColumn("x", EDGES),))
    with pytest.raises(LayoutError):
        Sketch.from_bytes(content, other)
    with pytest.raises(LayoutError):
        Sketch(other).merge(Sketch(LAYOUT))
    for damaged in (b"", content[:40], content[:-30], b"x" * 100):
        with pytest.raises(ValueError, match="no sketch"):
            Sketch.from_bytes(damaged, LAYOUT)


texts = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=1), st.integers(1, 50))


@given(st.lists(texts, max_size=8), st.lists(texts, max_size=8))
@settings(max_examples=50)
def test_frequent_texts_stay_within_their_bounds(
    one: list[dict[str, int]], two: list[dict[str, int]]
) -> None:
    size = 3
    a, b = SpaceSaving(size), SpaceSaving(size)
    for summary, batches in ((a, one), (b, two)):
        for batch in batches:
            summary.update(batch)
    a.merge(b)
    truth: dict[str, int] = {}
    for batch in [*one, *two]:
        for text, count in batch.items():
            truth[text] = truth.get(text, 0) + count

    assert len(a.counters) <= 2 * size
    for text, counted in a.counters.items():
        assert counted.most - counted.error <= truth.get(text, 0) <= counted.most
    for text, count in truth.items():
        if text not in a.counters:
            assert count <= a.least
