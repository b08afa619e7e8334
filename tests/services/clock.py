"""A clock for the tests of services."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Seconds that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now
