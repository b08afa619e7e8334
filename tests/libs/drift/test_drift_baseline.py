"""Baselines: made from data, kept as a document, refused where they do not fit the model; what they keep of its calibration."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import DType
from headrace.drift import (
    FILE,
    Baseline,
    BaselineError,
    CategoryBaseline,
    Choices,
    NumberBaseline,
    baseline_of,
    baseline_of_version,
    check_fits,
    parse,
    publication_of,
)
from headrace.drift.calibration import calibration_of
from headrace.drift.training_data import edges_of, read
from headrace.repository import RepositoryError, TensorSpec
from tests.libs.drift.baseline_models import OUTPUT, BaselineModels
from tests.libs.drift.training import draw

AGE, NAME = TensorSpec("age", DType.FLOAT32), TensorSpec("name", DType.BYTES)
VECTOR = TensorSpec("input", DType.FLOAT32, (2,))
CALIBRATED = Choices(calibration=("p", "y"))


def of(choices: Choices | None = None, **columns: Any) -> Baseline:
    return baseline_of(columns, choices or Choices())


def test_the_document_says_all_and_comes_back() -> None:
    made = baseline_of(
        draw(3000, np.random.default_rng(1)), Choices(outputs=["probability"], unwatched=["n0"])
    )

    assert parse(made.to_bytes()) == made
    masked, carrier = made.columns["m"], made.columns["carrier"]
    assert isinstance(masked, NumberBaseline)
    assert isinstance(carrier, CategoryBaseline)
    assert 10 < masked.nulls < 60
    assert list(carrier.categories)[:2] == ["UA", "AA"]
    assert made.columns["probability"].role == "output"
    assert not made.columns["n0"].watched
    assert made.columns["tail"].unseen > 0, "more planes than a vocabulary holds"


def test_no_row_is_in_the_document() -> None:
    secret = 1234.56789
    made = of(x=np.array([*np.linspace(0, 2000, 500), secret]))
    assert str(secret) not in made.to_bytes().decode()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0, 1.0, 2.0, 3.0], (1.5, 2.5)),
        ([5.0] * 10, ()),
        ([0.0] * 90 + [float(i) for i in range(1, 41)], None),
    ],
)
def test_frequent_values_have_a_bin_of_their_own(
    found: list[float], expected: tuple[float, ...] | None
) -> None:
    edges = edges_of(np.array(found))
    if expected is not None:
        assert edges == expected
    else:
        assert edges[0] == 0.5, "zero is apart from one"
        assert len(edges) > 5


def test_bins_of_a_smooth_column_have_equal_shares() -> None:
    about = of(x=np.random.default_rng(2).lognormal(size=20_000)).columns["x"]
    assert isinstance(about, NumberBaseline)
    assert len(about.counts) == 20
    assert max(about.counts) < 1.2 * 1000


@pytest.mark.parametrize(
    ("change", "column", "says"),
    [
        ({"counts": [1]}, "x", "counts"),
        ({"edges": [2.0, 1.0], "counts": [1, 1, 8]}, "x", "do not rise"),
        ({"edges": [float("nan")]}, "x", "edges.0"),
        ({"nulls": -1}, "x", "nulls"),
        ({"surplus": 1}, "x", "surplus"),
        ({"kind": "picture"}, "x", "kind"),
    ],
)
def test_a_damaged_document_names_column_and_key(change: dict[str, Any], column: str, says: str) -> None:
    document = json.loads(of(x=np.arange(10.0)).to_bytes())
    document["columns"]["x"] |= change
    with pytest.raises(BaselineError, match=says) as caught:
        parse(json.dumps(document).encode())
    assert caught.value.column == column


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": "other/1", "rows": 1, "columns": {}}', b"\xff"]
)
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(BaselineError, match="baseline"):
        parse(content)


def test_one_that_fits_is_accepted() -> None:
    data: dict[str, Any] = {
        "age": np.arange(5.0),
        "name": list("abcde"),
        "p": np.arange(5.0),
        "hour": np.arange(5),
    }
    check_fits(baseline_of(data, Choices(outputs=["p"], pipeline=["hour"])), [AGE, NAME], [OUTPUT])
    check_fits(of(input=np.ones((3, 2))), [VECTOR], [OUTPUT])
    named = Choices(tensors={"input": ("a", "b")})
    check_fits(of(named, a=np.arange(3.0), b=np.arange(3.0)), [VECTOR], [OUTPUT])


@pytest.mark.parametrize(
    ("made", "inputs", "column", "says"),
    [
        (of(age=np.ones(3), wage=np.ones(3)), [AGE], "wage", "the model has no such input"),
        (of(age=list("abc")), [AGE], "age", "holds texts, the model has age: float32"),
        (of(name=np.ones(3)), [NAME], "name", "holds numbers"),
        (of(age=np.ones(3)), [AGE, NAME], "name", "it is missing"),
        (of(input=np.ones((3, 3))), [VECTOR], "input[2]", "no such input"),
        (of(input=np.ones((3, 1))), [VECTOR], "input[1]", "it is missing"),
        (of(age=np.ones(3), p=np.ones(3)), [AGE], "p", "an output of the model, not an input"),
        (
            of(Choices(tensors={"input": ("a", "b", "c")}), a=np.ones(3), b=np.ones(3), c=np.ones(3)),
            [VECTOR],
            "c",
            "has 2 elements, 3 columns",
        ),
        (of(Choices(tensors={"other": ("a",)}), a=np.ones(3)), [AGE], "a", "no tensor 'other'"),
    ],
)
def test_one_that_does_not_fit_names_the_column(
    made: Baseline, inputs: list[TensorSpec], column: str, says: str
) -> None:
    with pytest.raises(BaselineError) as caught:
        check_fits(made, inputs, [OUTPUT])
    assert (caught.value.column, says in str(caught.value)) == (column, True), str(caught.value)


@pytest.mark.parametrize(
    ("data", "choices", "column"),
    [
        ({"x": [1.0, 2.0], "y": [1.0]}, Choices(), "y"),
        ({"x": [1.0]}, Choices(outputs=["z"]), "z"),
        ({"x": np.ones((3, 2))}, Choices(tensors={"x": ("a",)}), "x"),
        ({"x": []}, Choices(), ""),
        ({}, Choices(), ""),
        ({"p": [0.5], "x": [1.0]}, CALIBRATED, "y"),
        ({"p": [0.5], "y": [2.0]}, CALIBRATED, "y"),
        ({"p": [1.5], "y": [1.0]}, CALIBRATED, "p"),
        ({"p": ["a"], "y": [1.0]}, CALIBRATED, "p"),
        ({"p": [0.5], "y": ["yes"]}, CALIBRATED, "y"),
    ],
)
def test_data_that_make_no_baseline_are_refused(data: dict[str, Any], choices: Choices, column: str) -> None:
    with pytest.raises(BaselineError) as caught:
        baseline_of(data, choices)
    assert caught.value.column == column


def test_values_of_any_size_make_a_baseline() -> None:
    for found in ([1e308, -1e308, 0.0], [np.nan, np.inf], [5e-324, 0.0], [7.0]):
        assert parse((made := of(x=np.array(found))).to_bytes()) == made


def test_files_of_all_kinds_say_the_same(tmp_path: Path) -> None:
    table = pa.table(
        {"x": pa.array([1.5, None, 3.0]), "n": pa.array([1, 2, None]), "c": pa.array(["a", None, "b"])}
    )
    pa.parquet.write_table(table, tmp_path / "d.parquet")
    pa.csv.write_csv(table, tmp_path / "d.csv")

    from_parquet, from_csv = (baseline_of(read(tmp_path / f"d.{s}"), Choices()) for s in ("parquet", "csv"))
    assert [c.nulls for c in from_parquet.columns.values()] == [1, 1, 1]
    assert from_csv.columns["x"] == from_parquet.columns["x"]


@pytest.mark.parametrize("name", ["absent.parquet", "other.xls", "broken.parquet", "broken.csv"])
def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name.replace("absent", "there")).write_bytes(b"\0broken\xff")
    with pytest.raises(BaselineError):
        baseline_of(read(tmp_path / name), Choices(outputs=["p"]))


BASELINE = of(age=np.arange(50.0))


@pytest.fixture
def models(tmp_path: Path) -> BaselineModels:
    """Version 1 has a baseline, version 2 none."""
    made = BaselineModels(tmp_path)
    made.add("m", "1", AGE, *publication_of(BASELINE, [AGE], [OUTPUT]))
    made.add("m", "2", AGE, {})
    return made


def test_a_version_has_its_baseline_without_the_model_being_read(models: BaselineModels) -> None:
    (models.root / "m" / "1" / "model.onnx").unlink()

    assert baseline_of_version(models.repository, "m", "1") == BASELINE
    assert baseline_of_version(models.repository, "m", "2") is None


def test_an_altered_baseline_is_refused(models: BaselineModels) -> None:
    file = models.root / "m" / "1" / FILE
    file.write_bytes(file.read_bytes().replace(b'"rows": 50', b'"rows": 51'))
    with pytest.raises(RepositoryError, match=r"baseline\.json has SHA-256"):
        baseline_of_version(models.repository, "m", "1")

    metadata = models.root / "m" / "1" / "metadata.json"
    metadata.write_bytes(metadata.read_bytes().replace(b'"rows": 50', b'"rows": 51'))
    with pytest.raises(RepositoryError, match=r"metadata\.json is not the one"):
        baseline_of_version(models.repository, "m", "1")


def test_a_signed_baseline_that_does_not_fit_is_refused_when_it_is_read(models: BaselineModels) -> None:
    models.add("m", "3", AGE, {FILE: of(wage=np.ones(3)).to_bytes()})
    with pytest.raises(BaselineError, match="model 'm' version '3': baseline, column 'wage'"):
        baseline_of_version(models.repository, "m", "3")


RNG = np.random.default_rng(5)
P = RNG.beta(2, 5, size=20_000)


@pytest.mark.parametrize(("said", "low", "high", "holds"), [(P, 0.0, 0.02, True), (P / 2, 0.1, 0.2, False)])
def test_the_error_is_what_probabilities_are_off_by(said: Any, low: float, high: float, holds: bool) -> None:
    found = calibration_of("p", said, RNG.random(20_000) < P)
    assert low <= found.error <= high
    assert found.holds is holds


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans())))
def test_the_error_is_a_share_of_any_data(rows: list[tuple[float, bool]]) -> None:
    said, came = np.array([p for p, _ in rows]), np.array([y for _, y in rows], bool)
    found = calibration_of("p", said, came)
    assert 0 <= found.error <= 1
    assert not found.holds, "so few rows say nothing"


def test_it_is_kept_in_the_document_and_the_truth_is_not() -> None:
    data = {"x": RNG.normal(size=20_000), "p": P, "came": (RNG.random(20_000) < P).astype(int)}
    made = baseline_of(data, Choices(calibration=("p", "came")))
    assert list(made.columns) == ["x", "p"]
    again = parse(made.to_bytes())
    assert again == made
    assert again.calibration is not None
    assert (again.calibration.probability, again.calibration.rows, again.calibration.holds) == (
        "p",
        20_000,
        True,
    )
    assert parse(baseline_of({"x": P}, Choices()).to_bytes()).calibration is None


def test_rows_without_a_probability_or_a_truth_are_left_out() -> None:
    said = np.ma.MaskedArray([0.5, 0.5, 0.5], [True, False, False])
    made = baseline_of({"p": said, "y": [1.0, None, 0.0]}, CALIBRATED)
    assert made.calibration is not None
    assert (made.calibration.rows, made.calibration.error) == (1, 0.5)


def test_a_document_that_names_no_column_of_it_is_refused() -> None:
    content = baseline_of({"x": P}, Choices()).to_bytes()
    broken = content.replace(
        b'"columns"', b'"calibration": {"probability": "q", "error": 0.1, "rows": 9}, "columns"'
    )
    with pytest.raises(BaselineError, match=r"calibration\.probability: 'q'"):
        parse(broken)
