"""Writes rows into a Feast online store. Of two rows of an entity, the one with the newer event time stays."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore, FeatureView
from feast.data_source import PushSource
from feast.errors import FeastError

# The types of Feast's online stores that keep the newer row by themselves; others overwrite a row even with an older one.
_COMPARES_TIMES = {"redis"}

Progress = Callable[[str, int, int], None]
"""(view, done, total)."""


class WriteError(Exception):
    """The rows can't be written; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """`written`: rows that were written. `older`: rows not written, because the store or the same batch has a newer row."""

    written: int
    older: int


def open_store(repo: Path) -> FeatureStore:
    """The store whose feature_store.yaml is in `repo`. Raises WriteError."""
    logging.getLogger("feast").setLevel(logging.ERROR)
    try:
        return FeatureStore(repo_path=str(repo))
    except Exception as error:  # a wrong yaml raises many kinds of exceptions
        raise WriteError(f"{repo} is no feature repository: {error}") from error


def push(store: FeatureStore, name: str, rows: Sequence[Mapping[str, Any]]) -> Pushed:
    """Writes rows of a view, or of every view that a push source feeds. Blocks.

    A row has the view's join keys, its features and its event time. The time's column is the timestamp field of the view's
    source, or `event_timestamp`; its value is a datetime, ISO 8601 text or seconds since 1970. Raises WriteError for an unknown
    name and for rows that do not fit.
    """
    total = Pushed(0, 0)
    for view in _fed_by(store, name):
        one = _push_view(store, view, rows)
        total = Pushed(total.written + one.written, total.older + one.older)
    return total


def materialize(
    store: FeatureStore, until: datetime, views: Sequence[str] = (), progress: Progress = lambda *_: None
) -> None:
    """Writes the offline store's rows up to `until` (UTC) to the online store, view by view; all views if `views` is empty."""
    names = list(views) or [view.name for view in store.list_feature_views() if view.online]
    for i, name in enumerate(names):
        progress(name, i, len(names))
        try:
            # Feast prints to stdout, which may be for progress that programs read.
            with redirect_stdout(sys.stderr):
                store.materialize(datetime.fromtimestamp(0, UTC), until, feature_views=[name])
        except Exception as error:  # each kind of store has its own exceptions
            raise WriteError(f"can't materialize {name}: {error}") from error
    progress("", len(names), len(names))


def _fed_by(store: FeatureStore, name: str) -> list[FeatureView]:
    """The view of this name, or the views that the push source of this name feeds."""
    views = [*store.list_feature_views(), *store.list_stream_feature_views()]
    found = [view for view in views if name == view.name]
    found = found or [
        v for v in views if isinstance(v.stream_source, PushSource) and v.stream_source.name == name
    ]
    if not found:
        known = ", ".join(sorted(view.name for view in views)) or "none"
        raise WriteError(f"there is no view or push source {name!r}; the registry has {known}")
    return found


def _push_view(store: FeatureStore, view: FeatureView, given: Sequence[Mapping[str, Any]]) -> Pushed:
    source = view.batch_source
    stamp = (source.timestamp_field if source is not None else "") or "event_timestamp"
    keys = [*view.join_keys, stamp]
    columns = [*view.join_keys, *[f.name for f in view.features], stamp]
    # Row by row: in a table, what one row lacks would be a null beside the others' values.
    if missing := [column for column in columns if any(column not in row for row in given)]:
        raise WriteError(f"rows of {view.name} need {', '.join(missing)}")
    frame = pd.DataFrame(list(given), columns=columns)
    if nulls := [key for key in keys if frame[key].isna().any()]:
        raise WriteError(f"rows of {view.name} have a null in {', '.join(nulls)}")
    rows = frame.assign(**{stamp: _times(frame[stamp], view.name)})
    newest = rows.sort_values(stamp, kind="stable").drop_duplicates(view.join_keys, keep="last")
    if store.config.online_store.type not in _COMPARES_TIMES and len(newest):
        newest = newest[newest[stamp] > _known_times(store, view, newest)]
    if len(newest):
        try:
            store.write_to_online_store(view.name, newest)
        except (FeastError, ValueError, TypeError) as error:
            # Other exceptions are temporary failures of the store; they are not caught here.
            raise WriteError(f"rows of {view.name} do not fit: {error}") from error
    return Pushed(len(newest), len(frame) - len(newest))


def _times(column: Any, view: str) -> Any:
    try:
        numbers = pd.api.types.is_numeric_dtype(column)
        return (
            pd.to_datetime(column, utc=True, unit="s")
            if numbers
            else pd.to_datetime(column, utc=True, format="ISO8601")
        )
    except (ValueError, TypeError) as error:
        raise WriteError(f"rows of {view} have a time that is none: {error}") from error


def _known_times(store: FeatureStore, view: FeatureView, rows: pd.DataFrame) -> Any:
    """The event time that the online store has for each row's entity; 1970 where it has none."""
    feature = view.features[0].name
    entities = {key: rows[key].tolist() for key in view.join_keys}
    found = store.get_online_features([f"{view.name}:{feature}"], entities).to_dict(
        include_event_timestamps=True
    )
    return pd.to_datetime(pd.Series(found[f"{feature}__ts"], index=rows.index), utc=True, unit="s")
