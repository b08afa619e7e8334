"""Alerts of what predictions cost."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, TICKET, Alert

_ROWS = "sum by (pipeline) (increase(headrace_ingress_rows_total[6h]))"

COST = (
    Alert(
        "HeadraceCostOverBudget",
        TICKET,
        # What nobody caused has no pipeline, so what is idle is not in it. Few rows are dear whatever they are: the
        # processes' own work is shared by them.
        f'1000 * sum by (pipeline) (increase(headrace_cost_total{{pipeline!=""}}[6h])) / {_ROWS} '
        f"> on (pipeline) max by (pipeline) (headrace_cost_budget_per_1000) and on (pipeline) {_ROWS} >= 10000",
        30 * MINUTE_S,
        "1,000 predictions of {{ $labels.pipeline }} cost {{ $value | humanize }}, more than prices.yaml allows",
        "headrace cost --by version --since 6h",
    ),
    Alert(
        "HeadraceCostUntold",
        TICKET,
        "max by (instance) (headrace_cost_failing) == 1 or max by (instance) (headrace_cost_prices_broken) == 1",
        10 * MINUTE_S,
        "what predictions cost is not written down, or at the prices of an earlier prices.yaml",
        "headrace cost",
        follows=("HeadraceDiskWritesFailing",),
    ),
)
