"""The keys that have failed in any arm of a salt, so that each counts once, in the arm where it failed first."""

from __future__ import annotations

from dataclasses import dataclass, field

# Keys of one salt that are told apart; a set takes about 10 MB then.
MAX_KEYS = 200_000
# Salts that are kept; a pipeline has one for each rollout or experiment.
MAX_SALTS = 16


@dataclass(slots=True)
class _Salt:
    met: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    full: bool = False


class FirstFailures:
    """Not for several threads. Of a salt with more keys than can be told apart, those past the limit do not count: nothing is
    counted twice, and evidence stands still rather than being wrong."""

    def __init__(self) -> None:
        self._salts: dict[tuple[str, str], _Salt] = {}

    def count(self, pipeline: str, salt: str, keys: list[int], bad: list[int]) -> tuple[int, int, int]:
        """What the rows of an arm add: keys that no arm had met, rows of keys that had not failed, keys that failed first.

        `keys`: of the rows; `bad`: of the rows that failed by a fault of ours.
        """
        known = self._salts.pop((pipeline, salt), None) or _Salt()
        self._salts[pipeline, salt] = known  # as the newest
        if len(self._salts) > MAX_SALTS:
            del self._salts[next(iter(self._salts))]
        met, failed = known.met, known.failed
        new = set(keys) - met
        known.full |= len(met) + len(new) > MAX_KEYS
        if known.full:
            new = set()
        met |= new
        rows = keys if not known.full else [key for key in keys if key in met]
        fresh = len(rows) - sum(map(failed.__contains__, rows)) if failed else len(rows)
        fresh_bad = (set(bad) & met) - failed if bad else set()
        failed |= fresh_bad
        return len(new), fresh, len(fresh_bad)
