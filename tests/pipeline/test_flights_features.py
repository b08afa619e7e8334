"""Features come from the past only, and Feast's join in pieces is the point-in-time join."""

from typing import Any

import numpy as np
import pandas as pd
import prometheus_client  # noqa: F401 - before Feast, whose import changes where metrics live
import pytest

from deploy.pipelines.flights.feature_repo import FOREVER, TIME, VIEWS
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
def test_the_join_in_pieces_is_the_point_in_time_join(view: str) -> None:
    keys, ttl, features = VIEWS[view]
    year = flights().sources.flights
    autumn = year[year["asked_at"].between("2013-10-20", "2013-11-12")]
    asked = autumn.sample(400, random_state=2).rename(columns={"asked_at": TIME})
    ours = historical(flights().tables, asked, stretch=pd.Timedelta(days=9))
    limits: dict[str, Any] = {} if ttl == FOREVER else {"tolerance": pd.Timedelta(ttl)}
    expected = pd.merge_asof(
        asked[[*keys, TIME]].reset_index().sort_values(TIME),
        flights().tables[view].sort_values(TIME),
        on=TIME,
        by=keys,
        **limits,
    ).set_index("index")
    assert list(ours.index) == list(asked.index)
    np.testing.assert_array_equal(
        ours[features].to_numpy(float), expected.loc[asked.index, features].to_numpy(float)
    )
