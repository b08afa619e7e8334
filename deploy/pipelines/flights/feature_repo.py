"""Feast's definitions for flights: the features of planes, airports and routes, and their times to live."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project
from feast.types import Float64
from feast.value_type import ValueType

PROJECT = "flights"
SERVICE = "flights"
TIME = "event_timestamp"

# View → (join keys, time to live, features). The demo's data does not grow after preparation, as a live feed would. So an
# observation may be two days old: a prepared demo works for two days, and preparing it again moves the event times.
FOREVER = timedelta(0)
VIEWS: dict[str, tuple[list[str], timedelta, list[str]]] = {
    "planes": (["tailnum"], FOREVER, ["plane_year", "plane_seats", "plane_engines"]),
    "tail_history": (
        ["tailnum"],
        timedelta(days=30),
        ["tail_delay_mean", "tail_late_share", "tail_flights", "tail_last_delay"],
    ),
    "route_history": (
        ["carrier", "origin", "dest"],
        timedelta(days=30),
        ["route_delay_mean", "route_late_share", "route_flights", "route_distance"],
    ),
    "congestion": (["origin"], timedelta(days=2), ["origin_delay_mean"]),
    "weather": (
        ["origin"],
        timedelta(days=2),
        ["temp", "humid", "wind_speed", "precip", "pressure", "visib"],
    ),
}
KEYS = ["tailnum", "origin", "carrier", "dest"]


def definitions(data: Path) -> list[Any]:
    """All definitions for Feast's `apply`, on the tables `data/<view>.parquet`."""
    entities = {k: Entity(name=k, join_keys=[k], value_type=ValueType.STRING) for k in KEYS}
    views = [
        FeatureView(
            name=name,
            entities=[entities[k] for k in keys],
            ttl=ttl,
            schema=[Field(name=f, dtype=Float64) for f in features],
            source=FileSource(name=name, path=str(data / f"{name}.parquet"), timestamp_field=TIME),
            online=True,
        )
        for name, (keys, ttl, features) in VIEWS.items()
    ]
    service = FeatureService(name=SERVICE, features=list(views))
    return [
        Project(name=PROJECT, description="Will this flight arrive late?"),
        *entities.values(),
        *views,
        service,
    ]
