"""What the service reads is what Feast's own `get_online_features` reads, cell by cell: values and event times."""

import random
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.columns import Ragged
from tests.services.features.calling import SQLITE, get, serving
from tests.services.features.conftest import NOW, write_config

with warnings.catch_warnings():
    # Feast's own imports warn about what they import.
    warnings.simplefilter("ignore")
    import pandas as pd
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
    from feast.types import Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
    from feast.value_type import ValueType

ROWS = 500
CELLS = 100_000
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
}


def named(view: str, kinds: dict[str, Any]) -> dict[str, Any]:
    """No two views have a feature of one name."""
    return {f"{view}_{name}": kind for name, kind in kinds.items()}


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
    keys: dict[str, dict[str, list[Any]]] = {
        "by_number": {"number": list(range(-200, 200))},
        "by_pair": {"zone": [f"z{i % 7}" for i in range(210)], "number": [i // 7 for i in range(210)]},
        "by_text": {"text_key": [f"é{i}" for i in range(300)]},
    }
    kinds = {name: named(name, OTHERS if name == "by_text" else NUMBERS) for name in keys}
    tables = {name: frame(given, kinds[name], dice) for name, given in keys.items()}
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


def plain(value: Any) -> object:
    """A Value of Feast, as columns have it; None for null."""
    kind = value.WhichOneof("val")
    found = getattr(value, kind) if kind else None
    return found.encode() if isinstance(found, str) else found


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
    compared, values = 0, 0
    mismatches: list[tuple[object, ...]] = []
    async with serving(tmp_path / "repo", store_timeout_s=5.0, cache_s=0) as harness:
        while compared < CELLS:
            entities: dict[str, list[Any]] = {
                "number": [dice.randint(-220, 220) for _ in range(ROWS)],
                "zone": [f"z{dice.randint(0, 8)}" for _ in range(ROWS)],
                "text_key": [f"é{dice.randint(0, 330)}" for _ in range(ROWS)],
            }
            stock = store.get_online_features(service, entities).proto
            columns = (await get(harness, entities, "all", 60.0, text=False)).batch.columns
            for name, vector in zip(stock.metadata.feature_names.val, stock.results, strict=True):
                if name in entities:
                    continue
                column = columns[name]
                array = (
                    column.values.to_list() if isinstance(column.values, Ragged) else column.array.tolist()
                )
                ours = [v if ok else None for v, ok in zip(array, column.is_valid().tolist(), strict=True)]
                stamps = [s.seconds + s.nanos / 1e9 for s in vector.event_timestamps]
                ages = columns[f"@age_us/{'_'.join(name.split('_')[:2])}"].array.tolist()
                for a, b, stamp, age in zip(map(plain, vector.values), ours, stamps, ages, strict=True):
                    same = a == b and (b is None or abs(now.timestamp() - stamp - age / 1e6) < 2e-6)
                    mismatches += [] if same else [(name, a, b, stamp, age)]
                    values += b is not None
                compared += ROWS
    assert mismatches[:5] == []
    assert values > compared / 2
