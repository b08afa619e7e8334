"""Is the traffic divided as the weights say? Sequential test of the sample ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

# Evidence at which the division is taken for wrong: P(ever) ≤ 1/1000 if it is right.
SRM_ALARM = 1000.0
_CONCENTRATION = 100.0
# e^700 is about the largest that a double holds.
_MOST = 700.0


def log_e_value(counts: Mapping[str, int], weights: Mapping[str, float]) -> float:
    """log of E = Γ(A)/Γ(A+n) · Π Γ(α_i+x_i)/Γ(α_i) · Π θ_i^(−x_i), with α_i = 100·θ_i and A = Σ α_i.

    `counts`: x_i, units (keys where assignment is sticky, else requests) by arm; `weights`: θ_i, which add up to 1. A unit in an
    arm of weight 0 makes it infinite. Lindon & Malek 2022 (the Dirichlet-multinomial mixture against the multinomial θ).
    """
    total = sum(counts.values())
    log_e = math.lgamma(_CONCENTRATION) - math.lgamma(_CONCENTRATION + total)
    for arm, count in counts.items():
        theta = weights.get(arm, 0.0)
        if count and theta <= 0:
            return math.inf
        if count:
            alpha = _CONCENTRATION * theta
            log_e += math.lgamma(alpha + count) - math.lgamma(alpha) - count * math.log(theta)
    return log_e


@dataclass(slots=True)
class SampleRatio:
    """The test over phases of constant weights: E = Σ_k E_k / (k(k+1)) over the phases k = 1, 2, …, where a phase that has not
    begun counts as 1. As the shares add up to 1, E is an e-process, and P(E ever ≥ 1000) ≤ 1/1000.

    One phase is what is counted under one assignment at one place; a new weight begins another.
    """

    # Phase → counts by arm. A phase that is over is only there for its evidence.
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    log_es: dict[str, float] = field(default_factory=dict)

    def observe(self, phase: str, counts: Mapping[str, int], weights: Mapping[str, float]) -> None:
        """Adds units of a phase by arm. `weights`: the same during all of a phase."""
        known = self.counts.setdefault(phase, {})
        for arm, count in counts.items():
            known[arm] = known.get(arm, 0) + count
        # A finite number can be saved as JSON.
        self.log_es[phase] = min(log_e_value(known, weights), _MOST)

    @property
    def e(self) -> float:
        """The evidence against the weights; enormous if units are in an arm of weight 0."""
        begun = len(self.log_es)
        shares = [1 / (k * (k + 1)) for k in range(1, begun + 1)]
        rest = 1 - math.fsum(shares)
        return rest + math.fsum(
            share * math.exp(log_e) for share, log_e in zip(shares, self.log_es.values(), strict=True)
        )

    @property
    def units(self) -> int:
        """All that were counted."""
        return sum(sum(counts.values()) for counts in self.counts.values())
