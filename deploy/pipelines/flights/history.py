"""Features from earlier flights of the same plane, route or airport. The event time of a row is when its last outcome was known.

`ends_at`: outcomes that became known later are left out.
"""

from __future__ import annotations

import pandas as pd

WINDOW = "30D"
CONGESTION = pd.Timedelta(hours=3)


def tail_history(flights: pd.DataFrame, ends_at: pd.Timestamp) -> pd.DataFrame:
    """Per plane, at each arrival: statistics of its last 30 days, and its last delay (minutes)."""
    frame = _trailing(flights[flights["known_at"] <= ends_at], ["tailnum"], "tail")
    return frame.rename(columns={"arr_delay": "tail_last_delay"})


def route_history(flights: pd.DataFrame, ends_at: pd.Timestamp) -> pd.DataFrame:
    """Per carrier, origin and destination, daily at midnight UTC: statistics of the last 30 days, and the distance (miles)."""
    keys = ["carrier", "origin", "dest"]
    frame = _trailing(flights[flights["known_at"] <= ends_at], keys, "route", also=["distance"]).drop(
        columns="arr_delay"
    )
    # The last row of a day has what was known at the end of the day.
    frame["event_timestamp"] = frame["event_timestamp"].dt.ceil("D")
    frame = frame.drop_duplicates([*keys, "event_timestamp"], keep="last")
    return frame.rename(columns={"distance": "route_distance"}).reset_index(drop=True)


def _trailing(
    flights: pd.DataFrame, keys: list[str], prefix: str, also: list[str] | None = None
) -> pd.DataFrame:
    """Mean arrival delay (minutes), share of late flights and count, over the 30 days that end with each arrival."""
    frame = flights[[*keys, "known_at", "arr_delay", "late", *(also or [])]].sort_values([*keys, "known_at"])
    grouped = frame.assign(late=frame["late"].astype(float)).groupby(keys, sort=True)
    rolled = grouped.rolling(WINDOW, on="known_at")[["arr_delay", "late"]]
    # Both are sorted by `keys`, then by time, so the rows correspond by position.
    means, counts = rolled.mean(), rolled.count()["arr_delay"]
    frame[f"{prefix}_delay_mean"] = means["arr_delay"].to_numpy()
    frame[f"{prefix}_late_share"] = means["late"].to_numpy()
    frame[f"{prefix}_flights"] = counts.to_numpy()
    # Of two arrivals in the same minute, the later row includes both.
    frame = frame.drop_duplicates([*keys, "known_at"], keep="last")
    frame = frame.drop(columns="late").rename(columns={"known_at": "event_timestamp"})
    return frame.sort_values("event_timestamp", kind="stable").reset_index(drop=True)


def congestion(flights: pd.DataFrame, ends_at: pd.Timestamp) -> pd.DataFrame:
    """Per airport of departure, every 15 minutes: mean delay (minutes) of the departures of the last 3 hours.

    An airport without departures (at night) has no row, instead of a stale one.
    """
    left = flights[["origin", "departed_at", "dep_delay"]].sort_values("departed_at")
    # The departures of 15 minutes are known at their end.
    left["event_timestamp"] = left["departed_at"].dt.ceil("15min")
    quarters = left.groupby(["origin", "event_timestamp"])["dep_delay"].agg(["sum", "count"]).reset_index()
    rolled = quarters.groupby("origin").rolling(CONGESTION, on="event_timestamp")[["sum", "count"]].sum()
    quarters["origin_delay_mean"] = (rolled["sum"] / rolled["count"]).to_numpy()
    frame = quarters[["origin", "event_timestamp", "origin_delay_mean"]]
    return frame[frame["event_timestamp"] <= ends_at].reset_index(drop=True)
