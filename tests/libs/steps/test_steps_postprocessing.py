"""Each postprocessing step."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Column
from headrace.hop.errors import Fault, Reason
from headrace.steps import Result, compile_steps
from tests.libs.steps.test_steps_program import same

SCORES = Column.of("p", np.array([[0.2, 0.5, 0.3], [0.4, 0.1, 0.5]], np.float32))


def run(step: Mapping[str, Any], outputs: Mapping[str, Any], *columns: Column) -> Result:
    program = compile_steps("postprocessing", {"steps": [step], "outputs": outputs})
    return program.run({c.name: c for c in columns}, len(columns[0]))


def numbers(name: str, *values: float) -> Column:
    return Column.of(name, np.array(values))


def test_pick_keeps_the_type() -> None:
    result = run({"pick": {"column": "p", "index": 1, "into": "q"}}, {"q": "float32"}, SCORES)
    assert result.columns["q"].array.dtype == np.float32
    np.testing.assert_array_equal(result.columns["q"].array, SCORES.array[:, 1])


def test_pick_past_the_end_fails_the_call() -> None:
    with pytest.raises(Fault) as caught:
        run({"pick": {"column": "p", "index": 3}}, {"p": "float32"}, SCORES)
    assert caught.value.reason == Reason.REASON_INPUT_SHAPE


@pytest.mark.parametrize(
    ("name", "options", "values", "dtype", "wanted"),
    [
        ("threshold", {"at": 0.3, "into": "x"}, (0.29, 0.3, np.nan), "bool", [False, True, False]),
        ("sigmoid", {}, (-1000, 0, 1000), "float64", [0, 0.5, 1]),
        ("calibrate", {"method": "platt", "a": 2, "b": 1}, (-0.5, 1e6), "float64", [0.5, 1]),
        ("calibrate", {"method": "isotonic", "x": [0, 1], "y": [0.2, 0.6]}, (-1, 0.5, 2), "float64", [0.2, 0.4, 0.6]),
        ("calibrate", {"method": "temperature", "t": 2}, (0.5, 0.9, 0, 1), "float64", [0.5, 0.75, 0, 1]),
    ],
)  # fmt: skip
def test_one_number_to_another(
    name: str, options: dict[str, Any], values: tuple[float, ...], dtype: str, wanted: list[float]
) -> None:
    result = run({name: {"column": "x", **options}}, {"x": dtype}, numbers("x", *values))
    np.testing.assert_allclose(result.columns["x"].array, wanted, atol=1e-5)


def test_labels_of_the_largest_and_of_bands() -> None:
    result = run({"labels": {"column": "p", "labels": ["a", "b", "c"], "into": "l"}}, {"l": "string"}, SCORES)
    assert result.columns["l"].text() == ["b", "c"]
    step = {"labels": {"column": "x", "labels": ["low", "high"], "edges": [0.5], "into": "l"}}
    result = run(step, {"l": "string"}, numbers("x", 0.49, 0.5))
    assert result.columns["l"].text() == ["low", "high"]


def test_top_k_as_labels_and_as_positions() -> None:
    step = {"top_k": {"column": "p", "k": 2, "labels": ["a", "b", "c"], "into": "l", "scores": "s"}}
    outputs = {"l": {"type": "string", "shape": [2]}, "s": {"type": "float32", "shape": [2]}}
    result = run(step, outputs, SCORES)
    assert result.columns["l"].ragged.to_list() == [b"b", b"c", b"c", b"a"]
    np.testing.assert_array_equal(result.columns["s"].array, np.array([[0.5, 0.3], [0.5, 0.4]], np.float32))

    result = run(
        {"top_k": {"column": "p", "k": 1, "into": "i"}}, {"i": {"type": "int64", "shape": [1]}}, SCORES
    )
    assert result.columns["i"].array.tolist() == [[1], [2]]


def test_a_temperature_of_one_changes_nothing() -> None:
    step = {"calibrate": {"column": "p", "method": "temperature", "t": 1}}
    result = run(step, {"p": {"type": "float32", "shape": [3]}}, SCORES)
    np.testing.assert_allclose(result.columns["p"].array, SCORES.array, rtol=1e-6)


def test_softmax_does_not_overflow() -> None:
    logits = Column.of("z", np.array([[1000.0, 0.0], [-1000.0, -1000.0]]))
    result = run({"softmax": {"column": "z"}}, {"z": {"type": "float64", "shape": [2]}}, logits)
    assert result.columns["z"].array.tolist() == [[1, 0], [0.5, 0.5]]


def test_vote_counts_only_scores_that_are_there() -> None:
    absent = Column.of("b", np.array([0.4, 0, 0]), np.array([True, False, False]))
    first = Column.of("a", np.array([0.8, 0.8, 0]), np.array([True, True, False]))
    result = run({"vote": {"columns": {"a": 1, "b": 3}, "into": "v"}}, {"v": "float64"}, first, absent)
    np.testing.assert_allclose(result.columns["v"].array[:2], [0.5, 0.8])
    assert result.columns["v"].is_valid().tolist() == [True, True, False]


def test_redaction() -> None:
    column = Column.of_text("t", ["4111 1111", "abé", None])

    def redacted(**how: Any) -> Column:
        return run({"redact": {"column": "t", **how}}, {"t": "string"}, column).columns["t"]

    assert redacted(method="mask", keep_last=4).text() == ["*****1111", "***", None]
    dropped = redacted(method="drop")
    assert dropped.text() == [None] * 3
    assert dropped.ragged.data == b""
    hashed, other = (redacted(method="hash", salt=salt).text() for salt in "sz")
    assert [h and len(h) for h in hashed] == [16, 16, None]
    assert hashed[0] != other[0]


def test_rename_swaps() -> None:
    result = run(
        {"rename": {"columns": {"a": "b", "b": "a"}}},
        {"a": "float64", "b": "float64"},
        numbers("a", 1),
        numbers("b", 2),
    )
    assert (result.columns["a"].array.tolist(), result.columns["b"].array.tolist()) == ([2], [1])


ANSWER: dict[str, Any] = {
    "steps": [
        {"softmax": {"column": "z"}},
        {"calibrate": {"column": "z", "method": "temperature", "t": 1.7, "into": "cool"}},
        {"pick": {"column": "cool", "index": 2, "into": "third"}},
        {"calibrate": {"column": "third", "method": "platt", "a": 3, "b": -1, "into": "platt"}},
        {"vote": {"columns": {"third": 0.3, "platt": 0.7}, "into": "vote"}},
        {"round": {"column": "vote", "decimals": 4}},
        {"top_k": {"column": "cool", "k": 2, "into": "top", "scores": "top_scores"}},
        {"labels": {"column": "cool", "labels": ["a", "b", "c", "d", "e"], "into": "label"}},
    ],
    "outputs": {
        "cool": {"type": "float64", "shape": [5]},
        "vote": "float64",
        "top": {"type": "int64", "shape": [2]},
        "top_scores": {"type": "float64", "shape": [2]},
        "label": "string",
    },
}


@given(seed=st.integers(0, 1 << 32), rows=st.integers(1, 70), cuts=st.sets(st.integers(1, 69)))
def test_any_split_of_a_batch_gives_the_same_bits(seed: int, rows: int, cuts: set[int]) -> None:
    program = compile_steps("postprocessing", ANSWER)
    logits = Column.of("z", np.random.default_rng(seed).normal(0, 5, (rows, 5)).astype(np.float32))
    bounds = [0, *sorted(c for c in cuts if c < rows), rows]
    spans = list(pairwise(bounds))
    parts = [program.run({"z": logits.slice(a, b)}, b - a) for a, b in spans]
    same(program.run({"z": logits}, rows), parts, [b - a for a, b in spans])
