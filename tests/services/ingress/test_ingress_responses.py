"""What is kept from one response for the next makes no difference to what a caller gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.features.v1 import features_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Batch, Column, Rows
from headrace.hop.errors import Fault
from headrace.pipeline import Decision, ModelUse, parse
from services.ingress.documents.catalog import Entry
from services.ingress.inference import InferenceResult
from services.ingress.oip.response import Responses
from services.ingress.predict.response import write_rows
from tests.services.ingress.ingress_door import PIPELINE

ENTRY = Entry.of(parse(PIPELINE, "double.yaml"))
# As many messages of the router, the last without a decision.
MESSAGES: list[list[Decision]] = [
    [Decision(3, "abc", "default", [ModelUse("m", "doubler", "1", "ff")])],
    [Decision(3, "abc", "default", [ModelUse("m", "doubler", "2", "ee")])],
    [Decision(4, "def", "default", [])],
    [],
]


def answer(
    message: int, rows: int, fallbacks: list[tuple[str, int]], source: int, seed: int
) -> InferenceResult:
    random = np.random.default_rng(seed)
    columns = [
        Column.of("y", random.random((rows, 2), np.float32)),
        Column.of("big", random.random(rows) > 0.5),
        Column.of_text("said", [f"{seed}-{i}" for i in range(rows)]),
        Column.of("@source/weather", np.full(rows, source, np.uint8)),
    ]
    batch = Batch.of(Rows.one_request(rows, f"r{seed}", "demo", 1.0), columns)
    return InferenceResult(ENTRY, batch, fallbacks, MESSAGES[message], 0.0, 0.0)


answers = st.tuples(
    st.integers(0, len(MESSAGES) - 1),
    st.integers(1, 3),
    st.sampled_from([[], [("store_down", 0)], [("store_down", 0), ("late", 1)]]),
    st.sampled_from([features_pb2.SOURCE_PRESENT, features_pb2.SOURCE_STALE, features_pb2.SOURCE_NOT_FOUND]),
    st.sampled_from([["y", "big", "said"], ["big"], ["said", "y"]]),
)


@given(st.lists(answers, max_size=12))
def test_a_kept_head_is_the_one_that_would_be_written(
    several: list[tuple[int, int, list[tuple[str, int]], int, list[str]]],
) -> None:
    keeping = Responses()
    for i, (message, rows, fallbacks, source, names) in enumerate(several):
        given_answer = answer(message, rows, fallbacks, source, i)
        kept = keeping.write(given_answer, names, f"id-{i}")
        assert kept == Responses().write(given_answer, names, f"id-{i}")
        assert [len(o.shape) for o in kept.outputs] == [2] * len(names)


def test_backends_and_cold_starts_are_told() -> None:
    models = [
        ModelUse("m", "a", "1", "ff", "remote:edge"),
        ModelUse("n", "b", "2", "ee", "onnxruntime", True, True),
    ]
    given_answer = replace(answer(0, 1, [], 1, 1), decisions=[Decision(3, "abc", "default", models)])
    parameters = Responses().write(given_answer, ["y"], "a").parameters
    assert parameters["backends"].string_param == "remote:edge,onnxruntime"
    assert parameters["cold_start"].bool_param
    assert "cold_start" not in Responses().write(answer(0, 1, [], 1, 1), ["y"], "a").parameters


def test_an_output_that_is_missing_is_noticed_behind_one_that_was_whole() -> None:
    responses, whole = Responses(), answer(0, 1, [], 1, 1)
    responses.write(whole, ["y", "big"], "a")
    columns = {n: c for n, c in whole.batch.columns.items() if n != "big"}
    lacking = InferenceResult(ENTRY, Batch(whole.batch.rows, columns), (), whole.decisions, 0.0, 0.0)
    with pytest.raises(Fault, match="gave no output big"):
        responses.write(lacking, ["y", "big"], "b")


def with_ages(ages: list[int]) -> InferenceResult:
    given_answer = answer(0, len(ages), [], 1, 1)
    column = Column.of("@cached_us", np.array(ages, np.int64))
    return replace(given_answer, batch=given_answer.batch.with_columns([column]))


def test_kept_answers_are_told_with_their_ages() -> None:
    responses = Responses()
    parameters = responses.write(with_ages([-1, 5_000, 9_999_999]), ["y"], "a").parameters
    assert parameters["cached_rows"].int64_param == 2
    assert parameters["cached_age_ms"].int64_param == 9_999
    for ages in ([-1], [-1, -1, -1]):
        assert "cached_rows" not in responses.write(with_ages(ages), ["y"], "a").parameters
    reply = pb.PredictResponse()
    write_rows(with_ages([-1, 5_000, 0]), reply)
    ages_ms = [p.cached_age_ms if p.HasField("cached_age_ms") else None for p in reply.predictions]
    assert ages_ms == [None, 5, 0]
