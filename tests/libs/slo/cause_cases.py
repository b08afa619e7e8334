"""Causes of the other alerts, as series for promtool."""

from tests.libs.slo.promtool_case import case

CAUSES = [
    case(
        "no answer at all from a process, then again",
        {'up{job="headrace",instance="router"}': "1x5 0x5 1x5"},
        {"HeadraceTargetDown": {"4m": [], "9m": [""], "14m": []}},
    ),
    case(
        "the first rollback there ever was",
        {'headrace_rollout_changes_total{pipeline="small",action="roll back",verdict="worse"}': "_x9 1x60"},
        {"HeadraceRolledBack": {"8m": [], "12m": [""], "40m": []}},
    ),
    case(
        "what is live is worse than what was live before it, until it is rolled back",
        {'headrace_outcomes_worse_than_before{pipeline="small"}': "0x4 1x9 0x4"},
        {"HeadraceWorseThanBefore": {"4m": [], "6m": [""], "16m": []}},
    ),
    case(
        "a certificate that ends in 10 days, none at all, one that is replaced by an old one",
        {
            'headrace_ingress_certificate_end_seconds{instance="a"}': "864000x30",
            'headrace_ingress_certificate_end_seconds{instance="b"}': "0x30",
            'headrace_ingress_certificate_end_seconds{instance="c"}': "1728000x10 90000x20",
            'headrace_certificate_end_seconds{instance="router",side="server"}': "90000000x30",
        },
        {"HeadraceCertificateExpiring": {"5m": [""]}, "HeadraceCertificateEnding": {"5m": [], "15m": [""]}},
    ),
    case(
        "a service's own certificate ends",
        {
            'headrace_certificate_end_seconds{instance="router",side="server",file="cert"}': "90000x30",
            'headrace_certificate_end_seconds{instance="router",side="server",file="ca"}': "90000000x30",
        },
        {"HeadraceCertificateEnding": {"5m": [""]}},
    ),
    case(
        "a disk that is full, in the shape together: series that differ only by their names",
        {
            'headrace_executor_unsaved{instance="ingress"}': "0x20",
            'headrace_monitoring_storage_failing{instance="ingress"}': "0x5 1x5 0x10",
        },
        {"HeadraceDiskWritesFailing": {"4m": [], "8m": [""], "14m": []}},
    ),
    case(
        "old features of many rows, of few",
        {
            'headrace_features_rows_total{view="a",source="present"}': "0+90x40",
            'headrace_features_rows_total{view="a",source="stale"}': "0+30x40",
            'headrace_features_rows_total{view="b",source="present"}': "0+1x40",
            'headrace_features_rows_total{view="b",source="stale"}': "0+1x40",
        },
        {"HeadraceFeaturesStale": {"30m": [""]}},
    ),
    case(
        "a store that lost its rows, a view in which one plane in seven has none",
        {
            'headrace_features_rows_total{view="a",source="not_found"}': "0+60x40",
            'headrace_features_rows_total{view="a",source="present"}': "0+1x40",
            'headrace_features_rows_total{view="b",source="not_found"}': "0+60x40",
            'headrace_features_rows_total{view="b",source="present"}': "0+360x40",
        },
        {"HeadraceFeaturesMissing": {"15m": [""]}},
    ),
    case(
        "cold starts by calls: 1 in 50 rows, 1 in 1,000",
        {
            'headrace_executor_cold_starts_total{model="a",version="1",why="call"}': "0+1x60",
            'headrace_executor_rows_total{model="a",version="1",code="OK"}': "0+50x60",
            'headrace_executor_cold_starts_total{model="b",version="1",why="call"}': "0+1x60",
            'headrace_executor_rows_total{model="b",version="1",code="OK"}': "0+1000x60",
        },
        {"HeadraceColdStarts": {"55m": [""]}},
    ),
    case(
        "a tenant past its quota; another that is not",
        {
            'headrace_ingress_requests_total{tenant="a",code="RESOURCE_EXHAUSTED",fault="caller"}': "0+30x40",
            'headrace_ingress_requests_total{tenant="a",code="OK",fault="none"}': "0+60x40",
            'headrace_ingress_requests_total{tenant="b",code="OK",fault="none"}': "0+60x40",
        },
        {"HeadraceQuotaRefusals": {"20m": [""]}},
    ),
    case(
        "a process that starts three times within a quarter of an hour; one that starts once",
        {
            'process_start_time_seconds{job="headrace",instance="executor"}': "1x5 2x3 3x3 4x40",
            'process_start_time_seconds{job="headrace",instance="router"}': "1x5 2x50",
        },
        {"HeadraceCrashLoop": {"14m": [""], "40m": []}},
    ),
    case(
        "a process that is not ready; a queue that is long; a release that waits",
        {
            'headrace_ready{service="executor"}': "0x20",
            'headrace_executor_queue_rows{model="a",version="1"}': "600x20",
            'headrace_router_waiting_releases{pipeline="a"}': "1x20",
        },
        {n: {"15m": [""]} for n in ("HeadraceNotReady", "HeadraceQueueLong", "HeadraceReleaseWaiting")},
    ),
    case(
        "one row in a hundred of a version fails",
        {
            'headrace_executor_rows_total{model="a",version="1",code="OK"}': "0+990x30",
            'headrace_executor_rows_total{model="a",version="1",code="INTERNAL"}': "0+10x30",
        },
        {"HeadraceModelErrors": {"15m": [""]}},
    ),
    case(
        "half of the callers have no valid key; a tenant that a door can't read",
        {
            'headrace_ingress_requests_total{code="OK",fault="none"}': "0+50x30",
            'headrace_ingress_requests_total{code="UNAUTHENTICATED",fault="caller"}': "0+50x30",
            'headrace_ingress_security_events_total{kind="denied"}': "0+50x30",
            "headrace_ingress_tenants_broken": "1x30",
        },
        {"HeadraceAuthFailures": {"20m": [""]}, "HeadraceTenantsBroken": {"20m": [""]}},
    ),
    case(
        "too much for the system",
        {
            'headrace_ingress_requests_total{code="OK",fault="none"}': "0+50x30",
            'headrace_ingress_requests_total{code="RESOURCE_EXHAUSTED",fault="ours"}': "0+50x30",
            'headrace_ingress_refusals_total{limiter="admission"}': "0+50x30",
        },
        {"HeadraceOverloaded": {"20m": [""]}, "HeadraceQuotaRefusals": {"20m": []}},
    ),
    case(
        "the store fails; features are defaults; answers use fallbacks",
        {
            'headrace_features_store_errors_total{kind="timeout"}': "0+10x30",
            'headrace_router_fallback_rows_total{pipeline="small",fallback="model/a:standby"}': "0+50x30",
            'headrace_router_fallback_rows_total{pipeline="other",fallback="features/a:default"}': "0+50x30",
            'headrace_router_rows_total{pipeline="other",code="OK"}': "0+100x30",
            'headrace_router_rows_total{pipeline="small",code="OK"}': "0+100x30",
        },
        {"HeadraceFeatureStoreErrors": {"15m": [""]}, "HeadraceFallbacks": {"20m": [""]}},
    ),
    case(
        "a first failover, a first lost exposure, a first rejected event",
        {
            'headrace_executor_failovers_total{model="a",version="1",from="x",to="y"}': "_x9 1x60",
            'headrace_router_lost_exposures_total{instance="router"}': "0x9 5x60",
            'headrace_features_events_total{instance="features",outcome="rejected"}': "_x9 3x60",
        },
        {
            n: {"5m": [], "12m": [""], "40m": []}
            for n in ("HeadraceBackendFailover", "HeadraceTelemetryLost", "HeadraceFeatureEventsRejected")
        },
    ),
    case(
        "an analyser and a store of answers that fail",
        {
            'headrace_rollout_failures_total{kind="outcomes"}': "0+1x30",
            "headrace_router_cache_store_failures_total": "0+10x30",
        },
        {n: {"20m": [""]} for n in ("HeadraceRolloutFailing", "HeadraceAnswerStoreFailing")},
    ),
    case(
        "a pipeline that costs more than its budget, one that costs less, one with few rows; idle cores are no cost of any",
        {
            'headrace_cost_total{pipeline="a",kind="live"}': "0+0.06x200",
            'headrace_cost_total{pipeline="b",kind="live"}': "0+0.04x200",
            'headrace_cost_total{pipeline="c",kind="live"}': "0+1x200",
            'headrace_cost_total{pipeline="",kind="idle"}': "0+9x200",
            'headrace_ingress_rows_total{pipeline="a"}': "0+100x200",
            'headrace_ingress_rows_total{pipeline="b"}': "0+100x200",
            'headrace_ingress_rows_total{pipeline="c"}': "0+1x200",
            'headrace_cost_budget_per_1000{pipeline="a"}': "0.5x200",
            'headrace_cost_budget_per_1000{pipeline="b"}': "0.5x200",
            'headrace_cost_budget_per_1000{pipeline="c"}': "0.5x200",
        },
        {"HeadraceCostOverBudget": {"95m": [], "150m": [""]}},
    ),
]
