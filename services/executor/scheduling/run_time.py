"""How long a run of n rows takes, learned from runs: what the scheduler plans with."""

from __future__ import annotations

_WEIGHT = 0.2
# One pause of the machine must not make the scheduler drop rows that would have made it.
_MAX_RISE = 2.0
_RELAX = 0.95


class RunTimes:
    """Moving averages (EWMA) of run time in seconds, by batch size in powers of two."""

    def __init__(self) -> None:
        # Class (bit length of the row count) → average time and average rows of the runs in it.
        self._classes: dict[int, tuple[float, float]] = {}

    def learn(self, rows: int, seconds: float) -> None:
        """A run of `rows` ≥ 1 took `seconds`."""
        known = self._classes.get(rows.bit_length())
        if known is None:
            self._classes[rows.bit_length()] = (seconds, float(rows))
            return
        average, size = known
        seconds = min(seconds, average * _MAX_RISE)
        self._classes[rows.bit_length()] = (
            average + _WEIGHT * (seconds - average),
            size + _WEIGHT * (rows - size),
        )

    def estimate(self, rows: int) -> float:
        """Expected seconds for a run of `rows` ≥ 1, from the nearest size that is known; 0 if none is."""
        exact = self._classes.get(rows.bit_length())
        if exact is None and not self._classes:
            return 0.0
        if exact is None:
            wanted = rows.bit_length()
            exact = self._classes[min(self._classes, key=lambda c: (abs(c - wanted), c))]
        seconds, size = exact
        # More rows cost more in proportion; fewer are not taken to be faster: a run has a fixed part.
        return seconds * rows / size if rows > size else seconds

    def relax(self) -> None:
        """Trust the averages less: they forbade a run, and without runs they could never be corrected."""
        self._classes = {c: (seconds * _RELAX, size) for c, (seconds, size) in self._classes.items()}
