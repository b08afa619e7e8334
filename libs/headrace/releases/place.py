"""The store that a setting names: `control:unix-dir:/run/headrace/control`, or another target of `RemoteRecords`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.releases.of_records import RecordReleases

_CONTROL = "control:"


class PlaceError(ValueError):
    """A setting names no store of releases. The text names what is wrong with it."""


def open_store(place: str) -> RecordReleases:
    """The store that a setting names; it connects at the first call. Raises PlaceError."""
    if not place.startswith(_CONTROL):
        raise PlaceError("name where control is: control:unix-dir:/FOLDER or control:HOST:PORT")
    # Imported here: settings name the store without gRPC.
    from headrace.catalog.remote import RemoteRecords, TargetError
    from headrace.releases.of_records import RecordReleases

    try:
        return RecordReleases(RemoteRecords(place.removeprefix(_CONTROL)))
    except TargetError as error:
        raise PlaceError(f"control: {error}") from None
