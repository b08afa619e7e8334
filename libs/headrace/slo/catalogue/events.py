"""Alerts of prediction events: what is lost, late or can't be read."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert
from headrace.slo.catalogue.processes import TARGET_DOWN
from headrace.slo.promql import grew

EVENTS_DROPPED = "HeadraceEventsDropped"
_MISSING = "headrace_monitoring_missing_events"
# Half of what a router's journal may hold by default; beyond the whole, regulated predictions are refused.
_JOURNAL_BYTES = 512 * 1024 * 1024

EVENTS = (
    Alert(
        EVENTS_DROPPED,
        TICKET,
        grew("headrace_router_dropped_events_total", "instance", "10m")
        + " or "
        + grew("headrace_monitoring_dropped_events_total", "instance", "10m")
        # Not the same as a router's `refused`: with a stream, or a journal, no router learns of them.
        + " or "
        + grew("headrace_monitoring_refused_events_total", "instance", "10m"),
        0,
        "{{ $labels.instance }} dropped {{ $value | humanize }} events of predictions",
        "headrace events gaps",
        follows=(TARGET_DOWN, "HeadraceDiskWritesFailing"),
    ),
    Alert(
        "HeadraceEventsMissing",
        TICKET,
        # What is on its way is missing, too, for a moment: the least of ten minutes counts. The most of an hour before that:
        # a restart of the service is no new gap.
        f"max(min_over_time({_MISSING}[10m])) > max(max_over_time({_MISSING}[1h] offset 20m))",
        0,
        "{{ $value | humanize }} events that routers made were never stored; they are known as gaps",
        "headrace events gaps",
        follows=(EVENTS_DROPPED,),
    ),
    Alert(
        "HeadraceEventsBehind",
        TICKET,
        "sum by (instance) (headrace_router_waiting_events) > 0 "
        "and sum by (instance) (increase(headrace_router_events_total[5m])) == 0 "
        f"or max by (instance) (headrace_router_journal_bytes) > {_JOURNAL_BYTES}",
        2 * MINUTE_S,
        "events of {{ $labels.instance }} wait and do not arrive; once it has no more room, they are dropped and regulated "
        "predictions refused",
        "headrace status",
        follows=(TARGET_DOWN,),
    ),
    Alert(
        "HeadraceJournalUnwritable",
        PAGE,
        grew("headrace_router_unjournaled_rows_total", "instance", "5m"),
        0,
        "{{ $labels.instance }} refuses regulated predictions: its journal can't be written",
        "headrace doctor",
    ),
    Alert(
        "HeadraceEventsUnreadable",
        TICKET,
        grew("headrace_monitoring_unreadable_segments_total", "instance", "1h"),
        0,
        "segments of events can't be read; they were set aside",
        "headrace logs monitoring",
    ),
    Alert(
        "HeadraceEventSegmentsAway",
        TICKET,
        "max by (instance) (headrace_monitoring_event_segments_away) == 1",
        10 * MINUTE_S,
        "{{ $labels.instance }} can't reach the object storage of events: closed segments wait on its disk, older events are "
        "not found",
        "headrace logs monitoring",
        follows=(TARGET_DOWN,),
    ),
    Alert(
        "HeadraceEventStreamFailing",
        TICKET,
        "max by (instance) (headrace_monitoring_event_stream_failing) == 1",
        5 * MINUTE_S,
        "{{ $labels.instance }} can't read the stream of events, or store what it holds: once the stream is full, the oldest "
        "events are lost",
        "headrace logs monitoring",
        follows=(TARGET_DOWN, "HeadraceDiskWritesFailing"),
    ),
)
