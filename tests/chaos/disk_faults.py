"""Disks that are full or can't be written."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.gameday.expectation import Expectation
from tests.alerts.alarmed_system import PLACE, Alarmed
from tests.alerts.process_causes import full_disk
from tests.chaos.chaos import Chaos, Moments, lasting
from tests.disks import make_read_only, small_ext4
from tests.system import headrace


@contextmanager
def read_only(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The disk on which events are written becomes read-only, as the kernel makes it after an error of the device."""
    folder = PLACE.events / "open"
    with small_ext4(folder, alarmed.folder / "disk.ext4"):
        # So that it has all its files there.
        headrace("restart", "monitoring")
        moments.begin()
        make_read_only(folder)
        yield
    moments.mend()


_ALERT, _LABELS = "HeadraceDiskWritesFailing", {"instance": "monitoring"}
FAULTS = (
    Chaos(
        Expectation.harmless(
            "full disk",
            "a full disk (tmpfs of 1 MiB) where events are written",
            "room is made",
            _ALERT,
            _LABELS,
        ),
        lasting(full_disk),
        real=True,
    ),
    Chaos(
        Expectation.harmless(
            "read-only disk",
            "the disk where events are written (ext4) becomes read-only, as after an error of the device",
            "another disk is mounted",
            _ALERT,
            _LABELS,
        ),
        read_only,
        real=True,
    ),
)
