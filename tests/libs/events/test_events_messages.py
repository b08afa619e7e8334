"""What both ends agree on: groups survive their message, what is malformed is named, hashes find persons and nothing else."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.columns import Batch, Column, DType, Rows
from headrace.events import (
    EventGroup,
    GroupHeader,
    Mask,
    event_ids,
    messages,
    prediction_id,
    read_salt,
    split_prediction_id,
)
from headrace.hop.config import ConfigError
from headrace.pipeline import ModelUse

HEADER = GroupHeader(
    "flights",
    3,
    "ab" * 32,
    "next",
    7,
    "colours",
    (ModelUse("light", "flights_light", "2", "cd" * 32),),
    ("features/weather:stale",),
    ("carrier", "x"),
    ("score",),
    ("y",),
    ("carrier",),
    ("image",),
    replayed=True,
    shadow_of="live",
)
MASK = Mask(b"s" * 32)


def group(count: int = 3) -> EventGroup:
    times = np.arange(count, dtype=np.int64) + 1_700_000_000_000_000
    columns = [
        event_ids(times, np.full(count, 9, np.int64), np.arange(1, count + 1)),
        Column.of("@sequence", np.arange(1, count + 1)),
        Column.of("@time_us", times),
        Column.of("@row", np.zeros(count, np.uint32)),
        Column.of("@code", np.zeros(count, np.uint8)),
        Column.of("@reason", np.zeros(count, np.uint16)),
        Column.of("@latency_us", np.arange(count)),
        Column.of("@busy_us", np.arange(count)),
        Column.of("@cached", np.zeros(count, bool)),
        MASK.column(Column.of_text("carrier", ["AA", None, "UA"][:count])),
        Column.of("x", np.ones((count, 2), np.float32)),
        Column.of("score", np.full(count, np.nan)),
        Column("y", DType.INT32, np.arange(count, dtype=np.int32), (), np.arange(count) > 0),
    ]
    rows = Rows([f"r{i}" for i in range(count)], ["acme"] * count, [0] * count, [0.0] * count, ["t"] * count)
    return EventGroup(HEADER, Batch.of(rows, columns))


def test_a_group_survives_its_message() -> None:
    sent = group()
    content = messages.write("router-1", 9, 12, [sent]).SerializeToString()
    message = pb.EventReport.FromString(content)
    assert (message.replica, message.epoch, message.noted_count) == ("router-1", 9, 12)
    [found], _ = messages.read(message)
    assert found.header == sent.header
    assert found.batch.rows.request_ids == sent.batch.rows.request_ids
    for name, column in sent.batch.columns.items():
        other = found.batch.columns[name]
        assert (other.dtype, other.row_shape) == (column.dtype, column.row_shape), name
        assert other.is_valid().tolist() == column.is_valid().tolist(), name
        if column.dtype is DType.BYTES:
            assert other.ragged.to_list() == column.ragged.to_list(), name
        else:
            assert np.array_equal(other.array, column.array, equal_nan=column.dtype.is_float), name


def without(name: str) -> Callable[[EventGroup], EventGroup]:
    def change(given: EventGroup) -> EventGroup:
        columns = [c for c in given.batch.columns.values() if c.name != name]
        return EventGroup(given.header, Batch.of(given.batch.rows, columns))

    return change


def instead(column: Column) -> Callable[[EventGroup], EventGroup]:
    return lambda given: EventGroup(given.header, given.batch.with_columns([column]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("@code"), r"groups\[0\].batch: the column @code"),
        (without("y"), "lacks the columns y"),
        (instead(Column.of("@row", np.zeros(3, np.int64))), "@row must be UINT32"),
        (instead(Column.of_bytes("@event_id", [b"short"] * 3)), "each @event_id has 16 bytes"),
        (instead(Column.of("@sequence", np.array([1, 3, 2]))), "@sequence must ascend"),
        (instead(Column.of("@sequence", np.array([0, 1, 2]))), "@sequence must ascend"),
        (lambda g: EventGroup(replace(g.header, pipeline=""), g.batch), "pipeline is empty"),
    ],
)
def test_what_is_malformed_is_named(change: Callable[[EventGroup], EventGroup], named: str) -> None:
    message = messages.write("router-1", 9, 3, [change(group())])
    [], [refused] = messages.read(message)
    assert re.search(named, refused.why)
    assert (refused.pipeline, refused.rows) == (message.groups[0].pipeline, 3)


@pytest.mark.parametrize("epoch", [0, 1 << 63])
def test_an_epoch_has_63_bits(epoch: int) -> None:
    with pytest.raises(messages.UnreadableError, match="epoch"):
        messages.read(messages.write("router-1", epoch, 0, []))


@given(st.integers(0, (1 << 48) * 1000 - 1), st.integers(1, (1 << 63) - 1), st.integers(1, 20))
def test_ids_of_events_are_sorted_by_time_and_differ(time_us: int, epoch: int, count: int) -> None:
    numbers = np.arange(1, count + 1)
    ids = event_ids(np.full(count, time_us, np.int64), np.full(count, epoch), numbers).ragged.to_list()
    assert len(set(ids)) == count
    assert {int.from_bytes(i[:6], "big") for i in ids} == {time_us // 1000}


@given(st.from_regex(r"[A-Za-z0-9._:\-]{1,128}", fullmatch=True), st.integers(0, 10**9 - 1))
def test_a_prediction_id_names_request_and_row(request: str, row: int) -> None:
    assert split_prediction_id(prediction_id(request, row)) == (request, row)


@pytest.mark.parametrize("text", ["", "r", "/0", "r/", "r/-1", "r/x", "r/١", "r/0/", "r/1234567890"])
def test_what_is_no_prediction_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="REQUEST_ID/ROW"):
        split_prediction_id(text)


def test_hashes_find_a_value_of_a_column_and_link_nothing() -> None:
    column = Column.of_text("carrier", ["AA", "UA", "AA", None])
    first, second, third, _ = MASK.column(column).ragged.to_list()
    assert (first == third, first == second) == (True, False)
    assert first == MASK.hash("carrier", b"AA")
    assert MASK.column(column.renamed("airline")).ragged.to_list()[0] != first
    assert Mask(b"t" * 32).column(column).ragged.to_list()[0] != first
    assert MASK.column(column).is_valid().tolist() == [True, True, True, False]
    assert Mask(None).column(column).is_valid().tolist() == [False] * 4


@pytest.mark.parametrize("content", [None, b"", b"short", b" " * 40])
def test_an_unusable_salt_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "salt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="salt"):
        read_salt(path)


def test_a_salt_is_read_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"s" * 16 + b"\n")
    assert read_salt(tmp_path / "salt") == b"s" * 16
    assert read_salt(None) is None
