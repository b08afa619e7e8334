"""Rows put back in their places: after a stage that ran over some of them, and after several routes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Batch, Column, DType, Ragged, RowError, Rows
from headrace.hop.errors import Code, Reason
from headrace.pipeline import ModelUse
from services.router.routes.join import DECISION, join
from services.router.routes.run import FALLBACKS, RouteResult, bits
from services.router.routes.scatter import scatter

some_rows = st.lists(st.booleans(), min_size=1, max_size=30).filter(any)


@given(some_rows, st.integers(1, 3), st.booleans())
def test_scatter_is_the_inverse_of_take(there: list[bool], size: int, masked: bool) -> None:
    count, rows = len(there), np.flatnonzero(there)
    valid = np.arange(count) % 2 == 0 if masked else None
    numbers = Column.of("n", np.arange(1, count * size + 1, dtype=np.int32).reshape(count, size), valid)
    items = [b"x" * (i % 4) + b"%d" % i for i in range(count * size)]
    texts = Column("t", DType.BYTES, Ragged.of(items), (size,), valid)
    for column in (numbers, texts):
        spread = scatter(column.take(rows), rows, count, -1)
        back = spread.take(rows)
        assert len(spread) == count
        if column is numbers:
            assert back.array.tolist() == column.take(rows).array.tolist()
            assert (spread.array[~np.array(there)] == -1).all()
        else:
            assert back.ragged.to_list() == column.take(rows).ragged.to_list()
            assert set(spread.take(np.flatnonzero(~np.array(there))).ragged.to_list()) <= {b""}
        assert back.is_valid().tolist() == column.take(rows).is_valid().tolist()


def test_a_slice_of_byte_strings_scatters() -> None:
    column = Column.of_bytes("t", [b"a", b"bb", b"ccc"]).slice(1, 3)
    assert scatter(column, np.array([0, 2]), 3).ragged.to_list() == [b"bb", b"", b"ccc"]


def outcome(
    numbers: list[int], fallbacks: dict[str, list[bool]], annotations: list[Column], failed: list[int]
) -> RouteResult:
    count = len(numbers)
    names = [str(n) for n in numbers]
    rows = Rows(names, ["t"] * count, [1] * count, [9.0] * count, [""] * count)
    used = {name: np.array(mask, bool) for name, mask in fallbacks.items()}
    errors = {i: RowError(Code.INTERNAL, Reason.REASON_INTERNAL, names[i]) for i in failed}
    columns = [Column.of("y", np.array(numbers, np.int64)), *annotations, bits(used, count)]
    return RouteResult(
        Batch.of(rows, columns).with_errors(errors), list(used), [ModelUse("s", f"m{count}", "1", "")]
    )


def test_routes_join_in_the_order_of_the_request() -> None:
    first = outcome([0, 3], {"b": [True, False], "a": [False, True]}, [], [1])
    ages = [Column.of("@age_us/v", np.array([5, 6, 7])), Column.of("@source/v", np.ones(3, np.uint8))]
    second = outcome([1, 2, 4], {"a": [False, True, True]}, ages, [0])
    joined = join([first, second], [np.array([0, 3]), np.array([1, 2, 4])])
    batch = joined.batch
    assert batch.rows.request_ids == ["0", "1", "2", "3", "4"]
    assert batch.columns["y"].array.tolist() == [0, 1, 2, 3, 4]
    assert batch.columns[DECISION].array.tolist() == [0, 1, 1, 0, 1]
    assert batch.columns["@age_us/v"].array.tolist() == [-1, 5, 6, -1, 7]
    assert batch.columns["@source/v"].array.tolist() == [0, 1, 1, 0, 1]
    assert joined.fallbacks == ["b", "a"]
    assert batch.columns[FALLBACKS].array.tolist() == [1, 0, 2, 2, 2]
    assert {row: e.message for row, e in batch.errors.items()} == {1: "1", 3: "3"}
    assert [m.model for m in joined.models] == ["m2", "m3"]
