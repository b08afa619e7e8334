"""For people who pay: are promises kept, at what price."""

from __future__ import annotations

from headrace.dashboards.panel import Dashboard, Panel, one

_COUNT = "headrace_request_seconds_count"

EXECUTIVE = Dashboard(
    "executive",
    "headrace: executive",
    (
        Panel(
            "Availability",
            "Share of the requests that did not fail by our fault; what callers did wrong counts for nothing. Target: 99.9 %.",
            one(
                f'1 - (sum(increase({_COUNT}{{outcome="ours"}}[$__range])) or vector(0)) '
                f'/ sum(increase({_COUNT}{{outcome!="caller"}}[$__range]))'
            ),
            "stat",
            "percentunit",
            6,
            (0.9995, 0.999),
        ),
        Panel(
            "Error budget left",
            "Of the period that each document names. Below 0 the promise is broken.",
            one("headrace_slo:budget_left", "{{pipeline}} {{objective}}"),
            "gauge",
            "percentunit",
            6,
            (0.25, 0.0),
        ),
        Panel(
            "Cost per 1,000 predictions",
            "What was used, at the prices of prices.yaml: measured CPU, memory, GPUs, storage. What is reserved and not used is "
            "not in it.",
            one(
                'sum by (pipeline) (rate(headrace_cost_total{pipeline!=""}[$__rate_interval])) '
                "/ sum by (pipeline) (rate(headrace_ingress_rows_total[$__rate_interval])) * 1000",
                "{{pipeline}}",
            ),
            "stat",
            "currencyUSD",
            6,
        ),
        Panel(
            "Idle",
            "Share of the bill that was reserved and not used. The bill: what prices.yaml says is reserved, times its price.",
            one(
                'sum(rate(headrace_cost_total{kind="idle"}[$__rate_interval])) '
                "/ sum(rate(headrace_cost_bill_total[$__rate_interval]))"
            ),
            "stat",
            "percentunit",
            6,
        ),
        Panel(
            "Predictions per second",
            "Rows answered.",
            one("sum by (pipeline) (rate(headrace_ingress_rows_total[$__rate_interval]))", "{{pipeline}}"),
            "stat",
            "reqps",
            6,
        ),
        Panel(
            "Burn rate of promises",
            "1 uses up the budget exactly within the period. Pages come at 14.4, 6 and 2; tickets at 3, 1.1 and 1.",
            one("headrace_slo:burn", "{{pipeline}} {{objective}}"),
            limits=(1, 2),
        ),
        Panel(
            "Weekly accuracy",
            "Share of the judged predictions of a version that were right. Only predictions of which outcomes are known count.",
            one(
                "1 - avg by (pipeline, arm) (avg_over_time(headrace_drift_error_rate[7d]))",
                "{{pipeline}} {{arm}}",
            ),
            unit="percentunit",
            pending="headrace_drift_error_rate",
        ),
        Panel(
            "Outcomes known",
            "How much accuracy is based on.",
            one("sum(increase(headrace_monitoring_outcomes_total[$__range]))", "outcomes"),
            "stat",
            width=6,
        ),
        Panel(
            "Promises",
            "What documents promise.",
            one("headrace_slo:target", "{{pipeline}} {{objective}}"),
            "stat",
            "percentunit",
            6,
        ),
    ),
)
