"""What the service reads is what Feast's own `get_online_features` reads, cell by cell."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

import pytest
from feast import FeatureStore

from headrace.hop.testing import served
from services.features.wiring import SERVICE
from tests.services.features.calling import get

ROWS = 500


@pytest.mark.parametrize("kind", ["sqlite_repo", "redis_repo"])
async def test_every_cell_is_what_feast_says(
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
    async with served(SERVICE, {"repo": repo, "store_timeout_s": 5.0}) as harness:
        ours = await get(harness, entities)
    features = ["rating", "seats", "model", "delay", "open"]
    mismatches = [(f, i) for f in features for i in range(ROWS) if stock[f][i] != ours.values[f][i]]
    assert mismatches == []
    assert sum(value is not None for f in features for value in ours.values[f]) > 1000
