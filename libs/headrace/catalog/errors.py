"""Why records can't be read or changed. Nothing was changed."""

from __future__ import annotations

from enum import StrEnum


class RecordsError(Exception):
    """The records were not changed. The text says why, and what to do; it names no secret and no path."""


class RecordChangedError(RecordsError):
    """Somebody else changed the record first. `version`: the one that it has now; 0: it was never written."""

    def __init__(self, kind: str, name: str, version: int) -> None:
        self.kind, self.name, self.version = kind, name, version
        super().__init__(
            f"{kind} {name}: it was changed meanwhile (version {version}); look at it and decide anew"
        )


class LeaseLostError(RecordsError):
    """The lease that the change needs has ended, or somebody else holds it."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the lease {name!r} is not held any more, so another process decides")


class RecordInvalidError(RecordsError):
    """What should be written is wrong."""

    def __init__(self, kind: str, name: str, problem: str) -> None:
        self.kind, self.name, self.problem = kind, name, problem
        super().__init__(f"{kind} {name}: {problem}")


class Unavailable(StrEnum):
    """What is wrong with a database."""

    UNREACHABLE = "unreachable"
    FULL = "full"
    READ_ONLY = "read_only"
    DAMAGED = "damaged"
    NOT_INITIALISED = "not_initialised"
    NEWER = "newer"
    IN_USE = "in_use"


class RecordsUnavailableError(RecordsError, OSError):
    """The database can't be used now. What is live serves on. An OSError, as its callers expect of stores."""

    def __init__(self, why: Unavailable, text: str) -> None:
        self.why = why
        super().__init__(text)


class RecordsDivergedError(RecordsError):
    """Processes of the data plane have more than the database, or something else: nothing is changed until somebody decides."""
