"""Drift: a baseline of a model's columns, and tests of what is seen later against it. Pure, but for reading files."""

from headrace.drift.baseline import FILE, Baseline, BaselineError, CategoryBaseline, NumberBaseline, parse
from headrace.drift.calibration import Calibration
from headrace.drift.column_figures import figures
from headrace.drift.error_rate import ConceptDrift, ErrorRate
from headrace.drift.segments import segment_of
from headrace.drift.signature import check_fits
from headrace.drift.training_data import Choices, baseline_of
from headrace.drift.verdicts import Check, Level, Limits, Verdict, judge
from headrace.drift.version_files import baseline_of_version, publication_of

__all__ = [
    "FILE",
    "Baseline",
    "BaselineError",
    "Calibration",
    "CategoryBaseline",
    "Check",
    "Choices",
    "ConceptDrift",
    "ErrorRate",
    "Level",
    "Limits",
    "NumberBaseline",
    "Verdict",
    "baseline_of",
    "baseline_of_version",
    "check_fits",
    "figures",
    "judge",
    "parse",
    "publication_of",
    "segment_of",
]
