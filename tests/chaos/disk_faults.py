"""Disks that are full or can't be written."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.alerts.alarmed_system import Alarmed, facts_in, monitoring_settings
from tests.alerts.process_causes import full_disk
from tests.chaos.chaos import Moments, harmless, lasting
from tests.disks import make_read_only, small_ext4
from tests.system import restarted


@contextmanager
def read_only(alarmed: Alarmed, moments: Moments) -> Iterator[None]:
    """The disk of monitoring's database becomes read-only, as the kernel makes it after an error of the device."""
    folder = alarmed.folder / "read-only"
    folder.mkdir()
    disk = small_ext4(folder, alarmed.folder / "disk.ext4")
    with disk, restarted("monitoring", facts_in(folder), monitoring_settings()):
        moments.begin()
        make_read_only(folder)
        yield
    moments.mend()


_ALERT, _LABELS = "HeadraceDiskWritesFailing", {"instance": "monitoring"}
_FULL = "a full disk (tmpfs of 1 MiB) with monitoring's database"
_READ_ONLY = "the disk of monitoring's database (ext4) becomes read-only, as after an error of the device"
FAULTS = (
    harmless(lasting(full_disk), "full disk", _FULL, "room is made", _ALERT, labels=_LABELS, real=True),
    harmless(
        read_only, "read-only disk", _READ_ONLY, "another disk is mounted", _ALERT, labels=_LABELS, real=True
    ),
)
