"""Stored keys are byte for byte those of Feast's own encoder."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.columns import Column, DType
from services.features import wiring  # noqa: F401 - before Feast: see conftest.py
from services.features.plan.entity_keys import distinct, read_parts
from services.features.plan.plan import Feature, JoinKey, ViewPlan
from tests.services.features.calling import entity_column

from feast.infra.key_encoding_utils import serialize_entity_key  # isort: skip
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as FeastKey  # isort: skip
from feast.protos.feast.types.Value_pb2 import Value  # isort: skip

NAMES = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3, unique=True)
KINDS: dict[DType, tuple[st.SearchStrategy[Any], str]] = {
    DType.BYTES: (st.text(max_size=300), "string_val"),
    DType.INT64: (st.integers(-(1 << 63), (1 << 63) - 1), "int64_val"),
    DType.INT32: (st.integers(-(1 << 31), (1 << 31) - 1), "int32_val"),
}


def view_of(kinds: dict[str, DType]) -> ViewPlan:
    keys = tuple(JoinKey(f"@{name}", kinds[name], name) for name in sorted(kinds))
    return ViewPlan("view", "view", keys, (Feature("f", "double_val"),), 0.0)


@given(st.data())
def test_keys_are_those_of_feast(data: st.DataObject) -> None:
    kinds = {name: data.draw(st.sampled_from(list(KINDS))) for name in data.draw(NAMES)}
    count = data.draw(st.integers(1, 5))
    values = {n: data.draw(st.lists(KINDS[d][0], min_size=count, max_size=count)) for n, d in kinds.items()}
    view = view_of(kinds)
    columns = {
        f"@{n}": Column.of_text(n, v) if kinds[n] is DType.BYTES else entity_column(n, v)
        for n, v in values.items()
    }
    found = distinct(view, read_parts(columns, view.keys), count)
    for row in range(count):
        feast = FeastKey(
            join_keys=list(kinds),
            entity_values=[Value(**{KINDS[d][1]: values[n][row]}) for n, d in kinds.items()],
        )
        place = row if found.index is None else found.index[row]
        assert found.keys[place] == serialize_entity_key(feast, 3)
    assert len(set(found.keys)) == len(found.keys)


def test_rows_without_a_key_have_none_and_others_are_told_once() -> None:
    view = view_of({"a": DType.INT32, "b": DType.BYTES})
    columns = {
        "@a": entity_column("a", [1, 2, None, 1, 1 << 40]),
        "@b": entity_column("b", ["x", None, "x", "x", "x"]),
    }
    found = distinct(view, read_parts(columns, view.keys), 5)
    assert len(found.keys) == 1
    assert found.index == [0, 1, 1, 0, 1]
