"""Disks that are full or can't be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.cli.gameday.expectation import FEW, LATE, Expectation
from tests.alerts.alarmed_system import PLACE, Alarmed
from tests.alerts.process_causes import full_disk
from tests.chaos.chaos import Chaos, Moments
from tests.disks import make_read_only, small_ext4
from tests.system import headrace


@contextmanager
def full(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """As tests/alerts does it."""
    moments.begin()
    with full_disk(alarmed):
        yield
        moments.mend()


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


FAULTS = (
    Chaos(
        Expectation(
            "full disk",
            "a full disk (tmpfs of 1 MiB) where events are written",
            "room is made",
            "HeadraceDiskWritesFailing",
            {"instance": "monitoring"},
            codes=LATE,
            most=FEW,
            fallbacks=("features/",),
        ),
        full,
        real=True,
    ),
    Chaos(
        Expectation(
            "read-only disk",
            "the disk where events are written (ext4) becomes read-only, as after an error of the device",
            "another disk is mounted",
            "HeadraceDiskWritesFailing",
            {"instance": "monitoring"},
            codes=LATE,
            most=FEW,
            fallbacks=("features/",),
        ),
        read_only,
        real=True,
    ),
)
