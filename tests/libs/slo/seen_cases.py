"""Causes of the alerts of drift, events and audit, as series for promtool."""

from tests.libs.slo.promtool_case import case

MINUTES = ("15m", "45m", "50m", "70m", "90m", "105m", "125m")
SEEN = [
    case(
        "a column that drifts, one that is far away, one of a shadow that is far away",
        {
            'headrace_drift_level{pipeline="a",arm="live",column="x",check="distribution"}': "0x5 1x20 0x20",
            'headrace_drift_level{pipeline="a",arm="live",column="y",check="nulls"}': "0x5 2x20 0x20",
            'headrace_drift_level{pipeline="b",arm="canary/shadow",column="z",check="unseen"}': "0x30 2x20",
        },
        {
            "HeadraceDriftSevere": {"5m": [], "8m": [""], "30m": [], "50m": []},
            "HeadraceDrift": {"5m": [], "15m": [""], "30m": [], "45m": [""]},
        },
    ),
    case(
        "an arm that errs more; a baseline that can't be used; a retraining, and one that fails",
        {
            'headrace_drift_concept{pipeline="a",arm="live"}': "0x9 1x9 0x60",
            'headrace_drift_concept{pipeline="a",arm="canary/shadow"}': "1x80",
            'headrace_drift_refused_batches_total{instance="monitoring",why="baseline"}': "_x9 1x70",
            'headrace_retrain_triggers_total{pipeline="a",cause="unseen"}': "_x9 1x80",
            'headrace_retrain_failures_total{pipeline="a"}': "_x9 1x80",
        },
        {
            "HeadraceConceptDrift": {"8m": [], "12m": [""], "30m": []},
            **{
                n: {"8m": [], "12m": [""], "75m": []}
                for n in ("HeadraceDriftBlind", "HeadraceRetrainTriggered", "HeadraceRetrainFailing")
            },
        },
    ),
    case(
        "a series that makes room for another is no blindness",
        {'headrace_drift_refused_batches_total{instance="monitoring",why="series"}': "0+1x30"},
        {"HeadraceDriftBlind": {"20m": []}},
    ),
    case(
        "events that are dropped, that wait, that can't be read; regulated rows that are refused",
        {
            'headrace_router_dropped_events_total{instance="router",reason="full"}': "0x9 500x70",
            'headrace_router_waiting_events{instance="router"}': "0x9 50000x9 0x60",
            'headrace_router_events_total{instance="router"}': "0+10x9 90x9 90+10x60",
            'headrace_router_unjournaled_rows_total{instance="router"}': "0x9 7x70",
            'headrace_monitoring_unreadable_segments_total{instance="monitoring"}': "0x9 1x70",
        },
        {
            "HeadraceEventsDropped": {"8m": [], "12m": [""], "30m": []},
            "HeadraceEventsBehind": {"8m": [], "18m": [""], "30m": []},
            "HeadraceJournalUnwritable": {"8m": [], "12m": [""], "30m": []},
            "HeadraceEventsUnreadable": {"8m": [], "12m": [""], "75m": []},
        },
    ),
    case(
        "events in groups that monitoring can't read, of which with a stream no router learns",
        {'headrace_monitoring_refused_events_total{instance="monitoring"}': "0x9 3x70"},
        {"HeadraceEventsDropped": {"8m": [], "12m": [""], "30m": []}},
    ),
    case(
        "events that come and wait for a moment; a journal that fills",
        {
            'headrace_router_waiting_events{instance="a"}': "9x30",
            'headrace_router_events_total{instance="a"}': "0+1x30",
            'headrace_router_journal_bytes{instance="b"}': "0+60000000x30",
        },
        {"HeadraceEventsBehind": {"8m": [], "15m": [""]}},
    ),
    case(
        "events on their way are no gap; 40 that never came are, once; a restart of the service is no new gap",
        {"headrace_monitoring_missing_events": "0x3 9x3 0x3 5x3 0x19 40x50 0x1 40x90"},
        {"HeadraceEventsMissing": {at: [""] * (at == "50m") for at in MINUTES}},
    ),
    case(
        "a journal with a gap",
        {'headrace_audit_gaps{instance="control"}': "0x9 1x40"},
        {"HeadraceAuditGap": {"8m": [], "12m": [""], "30m": []}},
    ),
]
