"""A clock that can be wrong, for the processes of a system: libfaketime, which reads from a file how wrong it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

_LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@dataclass(frozen=True, slots=True)
class Clock:
    """`file`: how far it is ahead."""

    file: Path

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """The clock of the system with this folder; None: libfaketime is not installed."""
        return cls(folder / "clock") if _LIBRARIES else None

    def ahead(self, by: str) -> None:
        """Such as "+2d"; "+0": it is right."""
        part = self.file.with_suffix(".part")
        part.write_text(by + "\n")
        part.rename(self.file)

    def environment(self) -> dict[str, str]:
        """What a process needs to have this clock. Its monotonic clock stays right, as that of a machine does."""
        return {
            "LD_PRELOAD": str(_LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            # Files keep their times.
            "NO_FAKE_STAT": "1",
        }
