"""Read-out of an experiment: exposures and outcomes joined by key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from headrace.analysis.mean_difference import Difference, Moments, difference, relative_lift
from headrace.analysis.sample_ratio import SRM_ALARM, log_e_value

# The interval is asymptotic: with fewer keys in an arm nothing is said.
FEWEST_KEYS = 100
_LOG_ALARM = math.log(SRM_ALARM)


@dataclass(frozen=True, slots=True)
class ArmReadOut:
    """`exposures`: keys that met the arm; `outcomes`: those of them with an outcome; `mean`: outcome, None without any."""

    exposures: int
    outcomes: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class Lift:
    """How an arm differs from the first one, absolutely and as a share of it; None: too few keys to say."""

    absolute: Difference
    relative: Difference


@dataclass(frozen=True, slots=True)
class ReadOut:
    """`lifts`: arm → difference from the base, absent while there are too few keys; `crossed`: keys that met several arms and
    count nowhere; `sample_ratio`: whether keys are divided as they should be, and the log of the evidence that they are not."""

    base: str
    arms: Mapping[str, ArmReadOut]
    lifts: Mapping[str, Lift]
    crossed: int
    sample_ratio: Literal["as expected", "mismatch"]
    sample_ratio_log_e: float


def read_out(
    arms: Sequence[str],
    weights: Mapping[str, float],
    exposures: Iterable[tuple[object, str]],
    outcomes: Iterable[tuple[object, float]],
    alpha: float = 0.05,
) -> ReadOut:
    """Compares the arms with the first one.

    `exposures`: (key, arm) of one phase of constant `weights` (by arm, any scale); a key may come more than once. `outcomes`:
    (key, value); several of one key count as one unit. `alpha` is divided among the arms that are compared with the base.
    """
    met: dict[object, str | None] = {}
    wanted = set(arms)
    for key, arm in exposures:
        if arm in wanted and met.setdefault(key, arm) != arm:
            met[key] = None
    sums: dict[object, tuple[float, int]] = {}
    for key, value in outcomes:
        if met.get(key) is not None:
            y, n = sums.get(key, (0.0, 0))
            sums[key] = y + value, n + 1
    moments = {arm: Moments() for arm in arms}
    for key, (y, n) in sums.items():
        moments[met[key] or ""].add(y, n)
    exposed = dict.fromkeys(arms, 0)
    for seen in met.values():
        if seen is not None:
            exposed[seen] += 1
    total = sum(weights.get(arm, 0.0) for arm in arms)
    log_e = log_e_value(exposed, {arm: weights.get(arm, 0.0) / total for arm in arms}) if total else 0.0
    return ReadOut(
        arms[0],
        {arm: _arm(exposed[arm], moments[arm]) for arm in arms},
        lifts(moments, alpha),
        sum(seen is None for seen in met.values()),
        "mismatch" if log_e >= _LOG_ALARM else "as expected",
        log_e,
    )


def lifts(moments: Mapping[str, Moments], alpha: float) -> dict[str, Lift]:
    """Each arm against the first one, where both have enough keys."""
    base, *others = moments
    level = alpha / max(len(others), 1)
    enough = [arm for arm in others if min(moments[base].keys, moments[arm].keys) >= FEWEST_KEYS]
    return {
        arm: Lift(
            difference(moments[base], moments[arm], level), relative_lift(moments[base], moments[arm], level)
        )
        for arm in enough
    }


def _arm(exposures: int, moments: Moments) -> ArmReadOut:
    return ArmReadOut(exposures, moments.keys, moments.mean if moments.n else None)
