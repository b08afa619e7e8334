"""Features come from the past only, and the join is Feast's."""

from pathlib import Path

import numpy as np
import pandas as pd
import prometheus_client  # noqa: F401 - before Feast, whose import changes where metrics live
import pytest

from deploy.pipelines.flights.feature_repo import TIME, VIEWS
from deploy.pipelines.flights.feature_store import create, write_tables
from deploy.pipelines.flights.joining import historical
from tests.pipeline.flights_data import flights


def test_a_planes_history_is_what_was_known_then() -> None:
    known = flights().sources.flights
    for row in flights().tables["tail_history"].sample(60, random_state=1).itertuples():
        window = (known["known_at"] <= row.event_timestamp) & (
            known["known_at"] > row.event_timestamp - pd.Timedelta(days=30)
        )
        seen = known[window & (known["tailnum"] == row.tailnum)]
        expected = [len(seen), seen["arr_delay"].mean(), (seen["arr_delay"] > 15).mean()]
        assert [row.tail_flights, row.tail_delay_mean, row.tail_late_share] == pytest.approx(expected)


def test_a_routes_history_is_what_was_known_at_the_end_of_its_day() -> None:
    known = flights().sources.flights
    for row in flights().tables["route_history"].sample(40, random_state=1).itertuples():
        route = known[
            (known["carrier"] == row.carrier) & (known["origin"] == row.origin) & (known["dest"] == row.dest)
        ]
        past = route[route["known_at"] <= row.event_timestamp]
        seen = past[past["known_at"] > past["known_at"].max() - pd.Timedelta(days=30)]
        expected = [len(seen), seen["arr_delay"].mean()]
        assert [row.route_flights, row.route_delay_mean] == pytest.approx(expected)


def test_no_flight_is_told_its_own_outcome() -> None:
    frame = flights().sources.flights
    assert (frame["known_at"] > frame["asked_at"]).all()


@pytest.mark.parametrize("view", VIEWS)
def test_the_join_is_feasts_point_in_time_join(view: str, tmp_path: Path) -> None:
    """In the year's first days, when little is known, and in December."""
    keys, _, features = VIEWS[view]
    year = flights().sources.flights.rename(columns={"asked_at": TIME})
    known = missing = 0
    for begin, end in (("2013-01-01", "2013-01-03"), ("2013-12-20", "2013-12-28")):
        asked = year[year[TIME].between(begin, end)].sample(60, random_state=3)
        ours = historical(flights().tables, asked)
        assert list(ours.index) == list(asked.index)
        # Feast pairs all rows of an entity: only those that can count.
        reach = pd.Timestamp(begin, tz="UTC") - pd.Timedelta(days=31)
        tables = {
            v: t if v == "planes" else t[t[TIME].between(reach, pd.Timestamp(end, tz="UTC"))]
            for v, t in flights().tables.items()
        }
        write_tables(tables, tmp_path / begin)
        store = create(tmp_path / f"{begin}-feast", tmp_path / begin)
        on = [*keys, TIME]
        references = [f"{view}:{f}" for f in features]
        found = store.get_historical_features(asked[on].drop_duplicates(), references).to_df()
        # It loses rows whose entity has rows, but none in time.
        theirs = asked[on].merge(found[[*on, *features]].drop_duplicates(on), on=on, how="left")
        np.testing.assert_array_equal(ours[features].to_numpy(float), theirs[features].to_numpy(float))
        known, missing = (
            known + int(ours[features].notna().sum().sum()),
            missing + int(ours[features].isna().sum().sum()),
        )
    assert known
    assert missing or view in ("weather", "congestion")
