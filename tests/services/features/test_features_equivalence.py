"""What the service reads is what Feast's own `get_online_features` reads, cell by cell: values and event times."""

import random
import time
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.call import unary
from tests.services.features.calling import SQLITE, get, metrics_of, serving
from tests.services.features.conftest import NOW, write_config

with warnings.catch_warnings():
    # Feast's own imports warn about what they import.
    warnings.simplefilter("ignore")
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.protos.feast.serving import ServingService_pb2 as pb
    from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
    from feast.value_type import ValueType

ROWS = 500
CELLS = 100_000
ASK = unary(
    pb.DESCRIPTOR,
    "ServingService",
    "GetOnlineFeatures",
    pb.GetOnlineFeaturesRequest,
    pb.GetOnlineFeaturesResponse,
    idempotent=True,
)
NUMBERS = {
    "f64": (Float64, lambda d: d.uniform(-1e9, 1e9)),
    "f32": (Float32, lambda d: d.uniform(-1, 1)),
    "i64": (Int64, lambda d: d.randint(-(1 << 62), 1 << 62)),
    "i32": (Int32, lambda d: d.randint(-(1 << 31), (1 << 31) - 1)),
    "flag": (Bool, lambda d: d.random() < 0.5),
}
OTHERS = {
    "text": (String, lambda d: "".join(d.choices("aé漢😀 ", k=d.randint(0, 200)))),
    "raw": (Bytes, lambda d: d.randbytes(d.randint(0, 40))),
    "moment": (UnixTimestamp, lambda d: NOW - timedelta(seconds=d.randint(0, 1 << 30))),
    "floats": (Array(Float64), lambda d: [d.random() for _ in range(d.randint(1, 5))]),
    "words": (Array(String), lambda d: [str(d.random()) for _ in range(d.randint(1, 3))]),
    "ints": (Array(Int64), lambda d: [d.randint(-9, 1 << 40) for _ in range(d.randint(1, 70))]),
}


def frame(keys: dict[str, list[Any]], kinds: dict[str, Any], dice: random.Random) -> pd.DataFrame:
    """Values of every kind, each fourteenth of them null."""
    count = len(next(iter(keys.values())))
    columns: dict[str, Any] = {
        name: pd.Series([None if dice.random() < 0.07 else make(dice) for _ in range(count)], dtype=object)
        for name, (_, make) in kinds.items()
    }
    times = [
        NOW - timedelta(seconds=dice.randint(0, 10**7), microseconds=dice.randint(0, 999_999))
        for _ in range(count)
    ]
    return pd.DataFrame({**keys, **columns, "event_timestamp": times})


def create(folder: Path, online: dict[str, object]) -> FeatureStore:
    """An integer key, a composite one, and a text one whose values are of every other kind."""
    store = write_config(folder, online)
    dice = random.Random(11)
    tables = {
        "by_number": frame({"number": list(range(-200, 200))}, NUMBERS, dice),
        "by_pair": frame({"zone": [f"z{i % 7}" for i in range(210)], "number": [i // 7 for i in range(210)]}, NUMBERS, dice),
        "by_text": frame({"text_key": [f"é{i}" for i in range(300)]}, OTHERS, dice),
    }  # fmt: skip
    keys = {"by_number": ["number"], "by_pair": ["zone", "number"], "by_text": ["text_key"]}
    kinds: dict[str, Any] = {"by_number": NUMBERS, "by_pair": NUMBERS, "by_text": OTHERS}
    entities = {
        "number": Entity(name="number", value_type=ValueType.INT64),
        "zone": Entity(name="zone", value_type=ValueType.STRING),
        "text_key": Entity(name="text_key", value_type=ValueType.STRING),
    }
    views = []
    for name, table in tables.items():
        source = folder / f"{name}.parquet"
        pd.DataFrame({"event_timestamp": table["event_timestamp"]}).to_parquet(source)
        views.append(
            FeatureView(
                name=name,
                entities=[entities[key] for key in keys[name]],
                ttl=timedelta(0),
                schema=[Field(name=f, dtype=dtype) for f, (dtype, _) in kinds[name].items()],
                source=FileSource(path=str(source), timestamp_field="event_timestamp"),
            )
        )
    store.apply([*entities.values(), *views, FeatureService(name="all", features=[*views])])
    for name, table in tables.items():
        store.write_to_online_store(name, table)
    return store


def cells(reply: pb.GetOnlineFeaturesResponse) -> dict[str, list[tuple[bytes, int, int]]]:
    """By feature: value as bytes, event time in seconds and nanoseconds."""
    return {
        name: [
            (value.SerializeToString(deterministic=True), stamp.seconds, stamp.nanos)
            for value, stamp in zip(vector.values, vector.event_timestamps, strict=True)
        ]
        for name, vector in zip(reply.metadata.feature_names.val, reply.results, strict=True)
    }


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
async def test_every_cell_of_a_hundred_thousand_is_feasts(
    request: pytest.FixtureRequest, tmp_path: Path, now: datetime, kind: str
) -> None:
    online = SQLITE
    if kind == "redis":
        port = request.getfixturevalue("redis").port
        online = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    store = create(tmp_path / "repo", online)
    service = store.get_feature_service("all")
    dice = random.Random(5)
    compared, mismatches, values = 0, [], 0
    async with serving(tmp_path / "repo", store_timeout_s=5.0, cache_s=0) as harness:
        ask = harness.client().unary(ASK)
        while compared < CELLS:
            entities: dict[str, list[Any]] = {
                "number": [dice.randint(-220, 220) for _ in range(ROWS)],
                "zone": [f"z{dice.randint(0, 8)}" for _ in range(ROWS)],
                "text_key": [f"é{dice.randint(0, 330)}" for _ in range(ROWS)],
            }
            stock = cells(store.get_online_features(service, entities, full_feature_names=True).proto)
            message = pb.GetOnlineFeaturesRequest(feature_service="all", full_feature_names=True)
            for name, given in entities.items():
                field = "int64_val" if name == "number" else "string_val"
                for value in given:
                    message.entities[name].val.add(**{field: value})
            ours = cells(await ask(message, deadline=time.monotonic() + 60))
            assert set(ours) == set(stock)
            for name in stock:
                mismatches += [(name, a, b) for a, b in zip(stock[name], ours[name], strict=True) if a != b]
                compared += len(stock[name])
                values += sum(bool(value) for value, _, _ in ours[name])
        metrics = metrics_of(harness)
    assert mismatches[:5] == []
    assert values > compared / 2
    assert "headrace_features_stock_reads_total 0.0" in metrics


@pytest.mark.parametrize("kind", ["sqlite_repo", "redis_repo"])
async def test_every_cell_of_columns_is_what_feast_says(
    request: pytest.FixtureRequest, now: datetime, kind: str
) -> None:
    repo: Path = request.getfixturevalue(kind)
    dice = random.Random(7)
    entities: dict[str, list[object]] = {
        # Planes within their time to live, and some that nobody knows: Feast enforces no time to live here.
        "tail": [f"p{dice.choice([i for i in range(400) if i % 5])}" for _ in range(ROWS)],
        "airport": [dice.randint(0, 4) for _ in range(ROWS)],
        "carrier": [dice.choice(["UA", "DL"]) for _ in range(ROWS)],
    }
    store = FeatureStore(repo_path=str(repo))
    rows = [{name: values[i] for name, values in entities.items()} for i in range(ROWS)]
    stock = store.get_online_features(features=store.get_feature_service("small"), entity_rows=rows).to_dict()
    async with serving(repo, store_timeout_s=5.0) as harness:
        ours = await get(harness, entities)
    features = ["rating", "seats", "model", "delay", "open"]
    mismatches = [(f, i) for f in features for i in range(ROWS) if stock[f][i] != ours.values[f][i]]
    assert mismatches == []
    assert sum(value is not None for f in features for value in ours.values[f]) > 1000
