"""Compares what two versions answered to the same rows: pure statistics, the same for shadows and for replays.

`ComparisonReport` counts, row by row; reports of several processes add up. `differences` says which values differ.
"""

from headrace.comparison.differences import Difference, differences, shown
from headrace.comparison.report import ComparisonReport, OutputComparison, RowContext, merged
from headrace.comparison.sketch import QuantileSketch
from headrace.comparison.worst import DifferentRow, WorstRows

__all__ = [
    "ComparisonReport",
    "Difference",
    "DifferentRow",
    "OutputComparison",
    "QuantileSketch",
    "RowContext",
    "WorstRows",
    "differences",
    "merged",
    "shown",
]
