"""What becomes of rows whose feature values are missing, stale or too old: a named fallback, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.columns import RowError
from headrace.columns.column import Mask
from headrace.pipeline import FeaturesStage, ViewSpec
from services.router import errors

# Where the values of a view come from; numbered as headrace.api.features.v1.Source.
PRESENT, NOT_FOUND, OUTSIDE, STALE, DEFAULT = range(1, 6)
SOURCES = {NOT_FOUND: "not_found", OUTSIDE: "outside_max_age", STALE: "stale", DEFAULT: "default"}
# Annotations of a view: int64 microseconds (−1: no values), and uint8 of the numbers above.
AGE = "@age_us/"
SOURCE = "@source/"


def fallback_name(view: str, source: int) -> str:
    """`features/<view>:<source>`."""
    return f"features/{view}:{SOURCES[source]}"


def refused_sources(spec: ViewSpec) -> frozenset[int]:
    """The sources of a view's values for which a row is refused.

    DEFAULT is among them if either rule refuses: while the store can't be asked, nobody knows whether the values are
    missing or too old.
    """
    refused = {NOT_FOUND, DEFAULT} if spec.on_missing == "refuse" else set[int]()
    if spec.too_old == "refuse":
        refused |= {OUTSIDE, DEFAULT} if spec.takes_stale else {OUTSIDE, STALE, DEFAULT}
    return frozenset(refused)


class Verdict(NamedTuple):
    """What becomes of a batch's rows; see StageResult."""

    refused: dict[int, RowError]
    fallbacks: dict[str, Mask]
    refusals: dict[str, int]


class FreshnessPolicy:
    """The rules of one stage's views, applied to what the features service says of each row."""

    def __init__(self, stage: FeaturesStage) -> None:
        self._stage = stage
        self._refused = {view: refused_sources(spec) for view, spec in stage.views.items()}

    @property
    def refuses(self) -> bool:
        """Whether any view may refuse a row for lack of values."""
        return any(self._refused.values())

    def judge(
        self, annotations: Mapping[str, NDArray[np.generic]], failed: Mapping[int, RowError]
    ) -> Verdict:
        """The rows to refuse, and those that fall back. `failed`: rows that the service failed, which are neither.

        Raises Fault INTERNAL for a source that does not exist.
        """
        verdict = Verdict({}, {}, {})
        for view, refused in self._refused.items():
            sources = annotations[SOURCE + view]
            # Bytes: a few NumPy comparisons take longer than all of this.
            for source in sorted(set(sources.tobytes()) - {PRESENT}):
                mask = sources == source
                if failed:
                    mask[list(failed)] = False
                if not mask.any():
                    continue
                if source not in SOURCES:
                    raise errors.unusable_reply(self._stage.name, "a source of values that does not exist")
                if source in refused:
                    self._refuse(
                        verdict, view, source, np.flatnonzero(mask).tolist(), annotations[AGE + view]
                    )
                else:
                    verdict.fallbacks[fallback_name(view, source)] = mask
        return verdict

    def _refuse(
        self, verdict: Verdict, view: str, source: int, rows: list[int], ages: NDArray[np.generic]
    ) -> None:
        rule = self._stage.views[view].freshness
        limit_us = rule.max_age_us + rule.stale_us if rule else 0
        verdict.refusals[fallback_name(view, source)] = len(rows)
        for row in rows:
            if row not in verdict.refused:
                fault = errors.feature_unavailable(view, SOURCES[source], int(ages[row]), limit_us)
                verdict.refused[row] = RowError.of(fault, self._stage.name)
