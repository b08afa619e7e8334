"""Compares what two versions answered to the same rows: pure statistics, the same for shadows and for replays.

`ComparisonReport` counts, row by row. `differences` says which values differ.
"""

from headrace.comparison.differences import Difference, differences, shown
from headrace.comparison.report import ComparisonReport, ShadowReport, quantiles

__all__ = [
    "ComparisonReport",
    "Difference",
    "ShadowReport",
    "differences",
    "quantiles",
    "shown",
]
