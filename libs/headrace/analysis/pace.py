"""How fast a canary's weight may rise: by what it could cost at worst."""

from __future__ import annotations


def highest_weight(allowed: float, excess: float, rows: float) -> float:
    """The largest weight at which a stage costs at most `allowed` bad rows: allowed / (excess · rows), from 0 to 1.

    `excess`: upper bound of the canary's rate of bad rows over the live arm's; `rows`: of all arms that are left in the stage.
    For an error budget, `allowed` is the share of it that a stage may use × what is left of it (safe-change.md, section 2; the
    pace follows Google's SRE workbook, "Canarying releases": cost = excess × population × time).
    """
    if allowed <= 0:
        return 0.0
    cost = max(excess, 0.0) * rows
    return 1.0 if cost <= allowed else allowed / cost
