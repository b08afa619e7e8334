"""For whoever was paged: what is broken, and for whom."""

from __future__ import annotations

from headrace.dashboards.panel import Dashboard, Panel, one, quantiles

_REQUESTS = "headrace_ingress_requests_total"
_ROWS = "headrace_executor_rows_total"

ON_CALL = Dashboard(
    "on-call",
    "headrace: on call",
    (
        Panel(
            "Alerts that fire",
            "Recent incidents: each alert names its runbook in deploy/runbooks.",
            one('ALERTS{alertstate="firing",alertname=~"Headrace.+"}'),
            "table",
        ),
        Panel(
            "Promises now against their targets",
            "How many times faster than allowed the budget burns; above 1 the target is missed now.",
            one("headrace_slo:burn", "{{pipeline}} {{objective}}"),
            limits=(1, 2),
        ),
        Panel(
            "Latency p95 and p99",
            "From the arrival of a request to its answer, by pipeline; only answers.",
            quantiles(
                'headrace_request_seconds_bucket{outcome="ok"}', "pipeline", "{{pipeline}}", (0.95, 0.99)
            ),
            unit="s",
        ),
        Panel(
            "Requests by code",
            "Everything but OK is worth a look.",
            one(f"sum by (code, fault) (rate({_REQUESTS}[$__rate_interval]))", "{{code}} {{fault}}"),
            unit="reqps",
        ),
        Panel(
            "Error rate by whose fault",
            "ours: counts against availability (target < 0.1 %). caller: mistakes and refusals of callers.",
            one(
                f"sum by (fault) (rate({_REQUESTS}[$__rate_interval])) "
                f"/ scalar(sum(rate({_REQUESTS}[$__rate_interval])))",
                "{{fault}}",
            ),
            unit="percentunit",
        ),
        Panel(
            "Top failing pipelines",
            "Share of the requests that were not answered OK; the five worst.",
            one(
                f'topk(5, 1 - sum by (pipeline) (rate({_REQUESTS}{{code="OK"}}[$__rate_interval])) '
                f"/ sum by (pipeline) (rate({_REQUESTS}[$__rate_interval])))",
                "{{pipeline}}",
            ),
            "table",
            "percentunit",
        ),
        Panel(
            "Errors of models",
            "Heat map: share of the rows of each version that failed.",
            one(
                f'1 - sum by (model, version) (rate({_ROWS}{{code="OK"}}[$__rate_interval])) '
                f"/ sum by (model, version) (rate({_ROWS}[$__rate_interval]))",
                "{{model}}:{{version}}",
            ),
            "heatmap",
            "percentunit",
        ),
        Panel(
            "In flight, and the limit of admission",
            "At the limit, the door refuses.",
            (
                ("sum(headrace_ingress_in_flight)", "in flight"),
                ("sum(headrace_ingress_limit)", "limit"),
            ),
        ),
        Panel(
            "Rows that wait for models",
            "Queue length; a ticket comes at 512 for five minutes.",
            one("sum by (model) (headrace_executor_queue_rows)", "{{model}}"),
            limits=(256, 512),
        ),
        Panel(
            "Rows from fallbacks",
            "Rows with old or default features, by view.",
            one(
                "sum by (view, source) (rate(headrace_features_rows_total[$__rate_interval]))",
                "{{view}} {{source}}",
            ),
        ),
        Panel(
            "Processes",
            "1: it answers Prometheus and takes calls.",
            (
                ('up{job="headrace"}', "{{instance}} up"),
                ("headrace_ready", "{{instance}} {{service}} ready"),
            ),
        ),
        Panel(
            "What serves",
            "Number of the release that is live; it changed when the line steps.",
            one("max by (pipeline) (headrace_router_release)", "{{pipeline}}"),
        ),
    ),
)
