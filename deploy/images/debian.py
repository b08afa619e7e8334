"""The packages in a base, from the control data that unpacked.sh leaves in it."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

_STATUS = "./var/lib/dpkg/status.d/"


@dataclass(frozen=True, order=True)
class Package:
    """A package of Debian."""

    name: str
    version: str
    architecture: str
    # Of the .deb.
    sha256: str


def packages(base: Path) -> list[Package]:
    """What is in the base, by name."""
    found = []
    with tarfile.open(base) as archive:
        for member in archive:
            if member.name.startswith(_STATUS) and (content := archive.extractfile(member)) is not None:
                fields = HeaderParser().parsestr(content.read().decode())
                found.append(
                    Package(*(fields[key] for key in ("Package", "Version", "Architecture", "SHA256")))
                )
    return sorted(found)
