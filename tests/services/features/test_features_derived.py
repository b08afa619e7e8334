"""On-demand features, from stored ones and from what the request brings"""

import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.api.features.v1 import features_pb2 as pb
from headrace.columns import Column
from headrace.hop.errors import Code, Fault
from tests.services.features.calling import ask_columns, entity_column, metrics_of, serving
from tests.services.features.conftest import NOW, write_config

with warnings.catch_warnings():
    # Feast's own imports warn about what they import.
    warnings.simplefilter("ignore")
    import numpy as np
    import pandas as pd
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64, Int64, String
    from feast.value_type import ValueType


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shops with a price, three on-demand views of it, and a view without keys."""
    folder = tmp_path_factory.mktemp("derived")
    shops = pd.DataFrame(
        {
            "shop": ["a", "b", "c"],
            "price": [10.0, 20.0, None],
            "stock": [1, 2, 3],
            "event_timestamp": [NOW - timedelta(hours=1), NOW - timedelta(hours=5), NOW],
        }
    )
    weather = pd.DataFrame({"rain": [0.25], "event_timestamp": [NOW]})
    sources = {}
    for name, table in (("shops", shops), ("weather", weather)):
        table.to_parquet(folder / f"{name}.parquet")
        sources[name] = FileSource(path=str(folder / f"{name}.parquet"), timestamp_field="event_timestamp")
    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
    shop_view = FeatureView(
        name="shops", entities=[shop], ttl=timedelta(hours=3), source=sources["shops"],
        schema=[Field(name="price", dtype=Float64), Field(name="stock", dtype=Int64)],
    )  # fmt: skip
    weather_view = FeatureView(
        name="weather", entities=[], ttl=timedelta(0), source=sources["weather"],
        schema=[Field(name="rain", dtype=Float64)],
    )  # fmt: skip
    order = RequestSource(
        name="order", schema=[Field(name="count", dtype=Int64), Field(name="note", dtype=String)]
    )
    total = [Field(name="total", dtype=Float64), Field(name="label", dtype=String)]

    @on_demand_feature_view(sources=[shop_view, order], schema=total, mode="python")  # type: ignore[untyped-decorator]  # Feast's
    def in_python(inputs: dict[str, Any]) -> dict[str, Any]:
        pairs = zip(inputs["shops__price"], inputs["count"], strict=True)
        totals = [None if p is None else p * (n if n >= 0 else n / 0) for p, n in pairs]
        return {"total": totals, "label": [f"{n}!" for n in inputs["note"]]}

    @on_demand_feature_view(sources=[shop_view, order], schema=total, mode="pandas")  # type: ignore[untyped-decorator]  # Feast's
    def in_pandas(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["price"] * inputs["count"], "label": inputs["note"] + "!"})

    store = write_config(folder, {"type": "sqlite", "path": "online_store.db"})
    with warnings.catch_warnings():
        # On-demand views are experimental in Feast.
        warnings.simplefilter("ignore", RuntimeWarning)
        store.apply(
            [
                shop, shop_view, weather_view, in_python, in_pandas,
                FeatureService(name="python", features=[in_python]),
                FeatureService(name="pandas", features=[in_pandas, shop_view[["stock"]]]),
                FeatureService(name="keyless", features=[weather_view, shop_view]),
            ]
        )  # fmt: skip
    store.write_to_online_store("shops", shops)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.materialize(NOW - timedelta(days=1), NOW + timedelta(days=1), feature_views=["weather"])
    return folder


COLUMNS = [
    entity_column("shop", ["a", "c", "nobody", "b"]),
    Column.of("count", np.array([3, 4, 5, 6])),
    Column.of_text("note", ["x", "y", None, "z"]),
]


@pytest.mark.parametrize("service", ["python", "pandas"])
async def test_features_come_of_stored_ones_and_the_request(repo: Path, now: datetime, service: str) -> None:
    async with serving(repo, store_timeout_s=5.0) as harness:
        found = await ask_columns(harness, COLUMNS, service)
    view = f"in_{service}"
    # b is older than its time to live.
    assert found.values["total"] == [30.0, None, None, None]
    assert found.values["label"][:2] == ["x!", "y!"]
    assert found.sources(view) == ["PRESENT", "PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"]
    assert found.ages_s(view)[:2] == [3600.0, 0.0]
    inputs_shown = {"stock", "@age_us/shops", "@source/shops"} if service == "pandas" else set()
    assert set(found.values) == {"total", "label", f"@age_us/{view}", f"@source/{view}"} | inputs_shown


@pytest.mark.parametrize(
    ("max_age_s", "stale_s", "source", "total"),
    [(3601, 0, "PRESENT", 30.0), (3000, 601, "STALE", 30.0), (3000, 0, "OUTSIDE_MAX_AGE", None)],
)
async def test_a_rule_holds_an_on_demand_view_to_the_age_of_what_it_is_made_of(
    repo: Path, now: datetime, max_age_s: int, stale_s: int, source: str, total: float | None
) -> None:
    rule = pb.ViewRule(view="in_python", max_age_us=max_age_s * 1_000_000, stale_us=stale_s * 1_000_000)
    async with serving(repo) as harness:
        found = await ask_columns(harness, COLUMNS, "python", rules=[rule])
    # a is an hour old, c has no age, nobody is not there, b is older than its time to live.
    assert found.sources("in_python") == [source, "PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE"]
    assert found.values["total"][0] == total
    assert found.values["label"][:2] == ["x!" if total else None, "y!"]


async def test_a_row_that_a_function_fails_for_fails_no_other(repo: Path, now: datetime) -> None:
    async with serving(repo) as harness:
        counts = Column.of("count", np.array([3, -1, 5, 6]))
        shops = entity_column("shop", ["a", "a", "a", "a"])
        found = await ask_columns(harness, [shops, counts, COLUMNS[2]], "python")
        text = metrics_of(harness)
    assert found.values["total"] == [30.0, None, 50.0, 60.0]
    assert found.sources("in_python") == ["PRESENT", "DEFAULT", "PRESENT", "PRESENT"]
    assert 'headrace_features_underived_rows_total{view="in_python"} 1.0' in text


async def test_what_the_request_has_to_bring_is_named(repo: Path, now: datetime) -> None:
    async with serving(repo) as harness:
        for columns in (COLUMNS[:2], [*COLUMNS[:2], Column.of("note", np.zeros(4))]):
            with pytest.raises(Fault) as refused:
                await ask_columns(harness, columns, "python")
            assert refused.value.code == Code.INVALID_ARGUMENT
            assert dict(refused.value.metadata)["field"] == "note"


async def test_a_view_without_keys_is_refused_with_its_name(repo: Path, now: datetime) -> None:
    async with serving(repo) as harness:
        with pytest.raises(Fault, match="can't be read: view weather has no join key") as refused:
            await ask_columns(harness, COLUMNS[:1], "keyless")
    assert refused.value.code is Code.FAILED_PRECONDITION
