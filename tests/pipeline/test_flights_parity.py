"""What the models are trained on is what they are served: offline join and transforms against the running services."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import prometheus_client  # noqa: F401 - before Feast, whose import changes where metrics live
import pytest
from numpy.typing import NDArray

from deploy.pipelines.flights.feature_repo import KEYS, TIME
from deploy.pipelines.flights.feature_store import Tables, create, write_tables
from deploy.pipelines.flights.joining import historical
from deploy.pipelines.flights.transforming import DOCUMENT, model_inputs
from headrace.api.features.v1 import features_pb2
from headrace.api.preprocessing.v1 import preprocessing_pb2
from headrace.columns import ANNOTATION, Batch, Column, Rows, decode, encode
from headrace.featurestore.writer import materialize
from headrace.hop.testing import served
from headrace.pipeline import StepsStage, load
from services.features import wiring as features
from services.preprocessing import wiring as preprocessing
from services.router.stages.features import GET_FEATURES
from services.router.stages.steps import TRANSFORM
from tests.pipeline.flights_data import flights

# All in the months that the models are judged on.
CUT_OFFS = [
    pd.Timestamp(t, tz="UTC")
    for t in ("2013-11-05T14:00", "2013-11-21T22:30", "2013-12-08T06:15", "2013-12-29T18:00")
]
ROWS = 300
NUMBERS = ["month", "day_of_week", "hour", "minute"]
Serve = Callable[[pd.DataFrame], Awaitable[NDArray[np.float32]]]


def asked_at(cut_off: pd.Timestamp) -> pd.DataFrame:
    """Held-out flights of the day that follows, asked for at the cut-off."""
    year = flights().sources.flights
    day = year[year["asked_at"].between(cut_off, cut_off + pd.Timedelta(days=1))]
    return (
        day.sample(ROWS, random_state=3)[[*KEYS, *NUMBERS]].assign(**{TIME: cut_off}).reset_index(drop=True)
    )


@asynccontextmanager
async def running(repo: Path, moment: pd.Timestamp, patch: pytest.MonkeyPatch) -> AsyncIterator[Serve]:
    """The two services, with the features service's wall clock standing at `moment`."""
    patch.setattr(features, "WALL", moment.timestamp)
    settings = {"repo": repo, "store_timeout_s": 10.0}
    async with served(features.SERVICE, settings) as store, served(preprocessing.SERVICE, {}) as steps:
        ask, transform = store.client().unary(GET_FEATURES), steps.client().unary(TRANSFORM)

        async def serve(rows: pd.DataFrame) -> NDArray[np.float32]:
            deadline = time.monotonic() + 10
            columns = [Column.of_text(k, rows[k].tolist()) for k in KEYS]
            columns += [Column.of(n, rows[n].to_numpy(np.int32)) for n in NUMBERS]
            batch = Batch.of(Rows.one_request(len(rows), "r", "t", deadline), columns)
            request = features_pb2.GetFeaturesRequest(
                feature_service="flights", batch=encode(batch.select(KEYS))
            )
            found = decode((await ask(request, deadline=deadline)).batch)
            batch = batch.with_columns(c for n, c in found.columns.items() if not n.startswith(ANNOTATION))
            stage = next(s for s in load(DOCUMENT).stages if isinstance(s, StepsStage))
            message = preprocessing_pb2.TransformRequest(
                spec=stage.spec_json, spec_sha256=stage.spec_sha256, batch=encode(batch)
            )
            made = decode((await transform(message, deadline=deadline)).batch)
            assert not made.errors
            return made.columns["input"].array.astype(np.float32)

        yield serve


async def served_inputs(
    folder: Path, tables: Tables, known_at: pd.Timestamp, cut_off: pd.Timestamp, patch: pytest.MonkeyPatch
) -> NDArray[np.float32]:
    """What the services make of the flights asked for at `cut_off`, with the store materialised as of `known_at`."""
    write_tables(tables, folder / "data")
    store = create(folder / "feast", folder / "data")
    materialize(store, known_at.to_pydatetime())
    async with running(folder / "feast", cut_off, patch) as serve:
        return await serve(asked_at(cut_off))


@pytest.mark.parametrize("cut_off", CUT_OFFS, ids=str)
async def test_served_inputs_are_the_offline_ones_bit_for_bit(
    tmp_path: Path, cut_off: pd.Timestamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = await served_inputs(tmp_path, flights().tables, cut_off, cut_off, monkeypatch)
    offline = model_inputs(historical(flights().tables, asked_at(cut_off)))
    assert online.shape == (ROWS, 24)
    np.testing.assert_array_equal(online, offline)
    # Not equal because all is imputed: most values differ from row to row.
    assert min(len(np.unique(online[:, i])) for i in (6, 9, 12, 13, 16)) > 20


async def test_a_store_filled_too_late_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_off = CUT_OFFS[1]
    leaking = cut_off + pd.Timedelta(hours=6)
    online = await served_inputs(tmp_path, flights().tables, leaking, cut_off, monkeypatch)
    offline = model_inputs(historical(flights().tables, asked_at(cut_off)))
    assert (online != offline).any(axis=1).mean() > 0.5


async def test_features_computed_otherwise_online_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = CUT_OFFS[1]
    skewed = dict(flights().tables)
    # Somebody's stream counts delays in seconds.
    skewed["congestion"] = skewed["congestion"].assign(
        origin_delay_mean=lambda f: f["origin_delay_mean"] * 60
    )
    online = await served_inputs(tmp_path, skewed, cut_off, cut_off, monkeypatch)
    offline = model_inputs(historical(flights().tables, asked_at(cut_off)))
    assert [int(c) for c in np.flatnonzero((online != offline).any(axis=0))] == [17]


async def test_a_document_with_another_constant_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = CUT_OFFS[1]
    edited = tmp_path / "edited.yaml"
    edited.write_text(DOCUMENT.read_text().replace("plane_year: 2002.0", "plane_year: 2012.0"))
    online = await served_inputs(tmp_path, flights().tables, cut_off, cut_off, monkeypatch)
    offline = model_inputs(historical(flights().tables, asked_at(cut_off)), edited)
    assert [int(c) for c in np.flatnonzero((online != offline).any(axis=0))] == [6]
