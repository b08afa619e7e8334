"""What encrypts a home at rest. That is the platform's: a person attests it, and of a volume of Linux it can be read."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

from headrace.cli.diagnosis.readiness_attestations import ReadinessSettings
from headrace.cli.installation.layout import Layout

_BLOCK = Path("/sys/dev/block")
# What device mapper calls a device of dm-crypt.
_CRYPT = "CRYPT-"


def summary(layout: Layout, said: ReadinessSettings, today: date) -> str:
    """One line: the attestation with its date, and the volume if it is known to be encrypted; "plain" where nothing is."""
    known = (
        [f"the volume of {layout.home} is encrypted (dm-crypt)"] if has_encrypted_volume(layout.home) else []
    )
    if (attested := said.encryption) is not None:
        text = f"encrypted storage attested by {attested.by}, {attested.date}, until {said.end(attested)}"
        if attested.date <= today <= said.end(attested):
            return "; ".join([text, *known])
        known.append(f"{text}: it does not count today")
    if not has_encrypted_volume(layout.home):
        known.insert(0, "plain")
    return "; ".join(known)


def has_encrypted_volume(path: Path, block: Path = _BLOCK) -> bool:
    """Whether all block devices below a path are of dm-crypt, by sysfs; False also where that can't be told (network file
    systems, other kernels). `block`: by MAJOR:MINOR."""
    while not path.exists():
        path = path.parent
    number = path.stat().st_dev
    return _is_encrypted(block / f"{os.major(number)}:{os.minor(number)}")


def _is_encrypted(device: Path) -> bool:
    try:
        if (device / "dm" / "uuid").read_text().startswith(_CRYPT):
            return True
    except OSError:
        pass  # no device mapper: a disk, or what lies on several
    try:
        below = list((device / "slaves").iterdir())
    except OSError:
        return False
    return bool(below) and all(map(_is_encrypted, below))
