"""Statistics of safe change: tests that may be looked at as often as one likes. Pure functions and small state machines.

All of them stay valid at any time of stopping (Ville's inequality), so nobody has to fix the number of rows beforehand.
"""

from headrace.analysis.bounds import (
    excess_upper_bound,
    lower_bound,
    upper_bound,
    wilson,
)
from headrace.analysis.experiment import ArmReadOut, Lift, ReadOut, read_out
from headrace.analysis.latency import SlowThreshold, edge_bucket, rows_above, threshold_bucket
from headrace.analysis.mean_difference import (
    Difference,
    Moments,
    difference,
    relative_lift,
    sequential_half_width,
)
from headrace.analysis.pace import highest_weight
from headrace.analysis.rate_ratio import (
    FINE_EFFECTS,
    HARM_EFFECTS,
    SHIFT_EFFECTS,
    Count,
    RateRatio,
    benjamini_hochberg,
    log_mean,
    rows_needed,
)
from headrace.analysis.sample_ratio import SRM_ALARM, SampleRatio, log_e_value

__all__ = [
    "FINE_EFFECTS",
    "HARM_EFFECTS",
    "SHIFT_EFFECTS",
    "SRM_ALARM",
    "ArmReadOut",
    "Count",
    "Difference",
    "Lift",
    "Moments",
    "RateRatio",
    "ReadOut",
    "SampleRatio",
    "SlowThreshold",
    "benjamini_hochberg",
    "difference",
    "edge_bucket",
    "excess_upper_bound",
    "highest_weight",
    "log_e_value",
    "log_mean",
    "lower_bound",
    "read_out",
    "relative_lift",
    "rows_above",
    "rows_needed",
    "sequential_half_width",
    "threshold_bucket",
    "upper_bound",
    "wilson",
]
