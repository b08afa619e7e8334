"""For finding the cause: where the time goes, how old features are, what processes and GPUs do."""

from __future__ import annotations

from headrace.dashboards.panel import Dashboard, Panel, one, quantiles

_KEYS = "headrace_features_keys_total"

DEBUG = Dashboard(
    "debug",
    "headrace: debug",
    (
        Panel(
            "Traces of requests",
            "`headrace trace REQUEST_ID` draws the trace of one request; `headrace logs ingress` has the ids of failed ones. "
            "With a collector (`telemetry.otlp_endpoint`), the trace is there under the same id.",
            kind="text",
        ),
        Panel(
            "Time of a call between services",
            "p95, retries included; grows where the cause is.",
            quantiles("headrace_hop_client_seconds_bucket", "callee", "{{callee}}", (0.95,)),
            unit="s",
        ),
        Panel(
            "Time of stages",
            "p95 of a batch, hop included.",
            quantiles(
                "headrace_router_stage_seconds_bucket", "pipeline, stage", "{{pipeline}} {{stage}}", (0.95,)
            ),
            unit="s",
        ),
        Panel(
            "Time of models: run",
            "One run of a batch, by version.",
            quantiles(
                "headrace_executor_run_seconds_bucket", "model, version", "{{model}}:{{version}}", (0.5, 0.95)
            ),
            unit="s",
        ),
        Panel(
            "Time of models: waiting",
            "In the executor's queue, by version.",
            quantiles(
                "headrace_executor_queue_seconds_bucket", "model, version", "{{model}}:{{version}}", (0.95,)
            ),
            unit="s",
        ),
        Panel(
            "Rows of a run",
            "Mean size of batches: small ones cost more.",
            one(
                "sum by (model) (rate(headrace_executor_batch_rows_sum[$__rate_interval])) "
                "/ sum by (model) (rate(headrace_executor_batch_rows_count[$__rate_interval]))",
                "{{model}}",
            ),
        ),
        Panel(
            "Freshness of features",
            "p95 of the ages of the values served, by view. `headrace features check` shows single keys, which are no labels.",
            quantiles("headrace_features_age_seconds_bucket", "view", "{{view}}", (0.95,)),
            unit="s",
        ),
        Panel(
            "Where features came from",
            "Share of the entities that were in memory (hits), in a read that was on its way, or read from the store.",
            one(
                f"sum by (from) (rate({_KEYS}[$__rate_interval])) / scalar(sum(rate({_KEYS}[$__rate_interval])))",
                "{{from}}",
            ),
            unit="percentunit",
        ),
        Panel(
            "Kept answers: share of hits",
            "Of pipelines with the key `cache`; 0 where no pipeline has one.",
            one(
                '(sum(rate(headrace_router_cache_rows_total{outcome=~"hit|shared"}[$__rate_interval])) '
                "/ sum(rate(headrace_router_cache_rows_total[$__rate_interval]))) or vector(0)",
                "hits",
            ),
            unit="percentunit",
        ),
        Panel(
            "Cold starts and loads",
            "Versions made ready: at the start, by an operator, or because a call came.",
            one("sum by (model, why) (headrace_executor_cold_starts_total)", "{{model}} {{why}}"),
        ),
        Panel(
            "Utilisation of GPUs",
            "From NVIDIA's dcgm-exporter. 60 to 80 % is efficient.",
            one("DCGM_FI_DEV_GPU_UTIL", "GPU {{gpu}}"),
            unit="percent",
            limits=(80, 95),
            recorded=True,
        ),
        Panel(
            "Memory of GPUs",
            "From NVIDIA's dcgm-exporter; share that is in use.",
            one("DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)", "GPU {{gpu}}"),
            unit="percentunit",
            recorded=True,
        ),
        Panel(
            "Retraining",
            "Retrainings that were triggered since the service started, and why; 0: none.",
            # Not `increase`: the first trigger makes the series, and would not count.
            one(
                "sum by (pipeline, cause) (headrace_retrain_triggers_total) or vector(0)",
                "{{pipeline}} {{cause}}",
            ),
        ),
        Panel(
            "Drift",
            "Population stability index of each column against the baseline of its model; 0.1 is worth a look, 0.25 is drift. "
            "Alerts also ask whether it is more than noise.",
            one("topk(20, headrace_drift_psi)", "{{pipeline}} {{arm}} {{column}}"),
            limits=(0.1, 0.25),
        ),
        Panel(
            "Drift: broken and unknown values",
            "Share of the rows of a column that are null, not finite, out of range or of a category that training did not have.",
            one("topk(20, headrace_drift_share)", "{{pipeline}} {{arm}} {{column}} {{check}}"),
            unit="percentunit",
        ),
        Panel(
            "CPU of processes",
            "Cores.",
            one(
                'sum by (instance) (rate(process_cpu_seconds_total{job="headrace"}[$__rate_interval]))',
                "{{instance}}",
            ),
        ),
        Panel(
            "Memory of processes",
            "A line that only rises ends in an out-of-memory kill.",
            one('process_resident_memory_bytes{job="headrace"}', "{{instance}}"),
            unit="bytes",
        ),
        Panel(
            "Event loops",
            "Seconds since the loop last ran; above 1, all calls of the process wait.",
            one("headrace_loop_heartbeat_age_seconds", "{{instance}}"),
            unit="s",
            limits=(1, 5),
        ),
        Panel(
            "Breakers and retries",
            "Breaker: 0 closed, 1 half open, 2 open.",
            one("max by (instance, callee) (headrace_hop_breaker_state)", "{{instance}} → {{callee}}"),
        ),
    ),
)
