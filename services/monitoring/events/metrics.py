"""The instruments of prediction events. Labels hold fixed words."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class EventMetrics:
    """Counts events. `files`: what they lie in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.files = FileMetrics(registry)
        self.stored = Counter("headrace_monitoring_events", "Events that were stored.", registry=registry)
        self.dropped = Counter(
            "headrace_monitoring_dropped_events",
            "Events that were received and could not be stored.",
            registry=registry,
        )
        self.failing = Gauge(
            "headrace_monitoring_events_failing",
            "1 while events can't be stored, as on a full disk.",
            registry=registry,
        )
        self.missing = Gauge(
            "headrace_monitoring_missing_events",
            "Events that routers made and that were not stored within ten seconds: the sum of all gaps.",
            registry=registry,
        )
        self.swept = Counter(
            "headrace_monitoring_swept_events",
            "Events removed for their age or the room they take.",
            registry=registry,
        )
        self.erased = Counter(
            "headrace_monitoring_erased_events", "Events that were erased.", registry=registry
        )
        self.refused = Counter(
            "headrace_monitoring_refused_events",
            "Events in groups that could not be read, as of a router of another generation.",
            registry=registry,
        )
        self.observers_failed = Counter(
            "headrace_monitoring_failed_observations",
            "Batches of events that something that observes them could not take.",
            registry=registry,
        )


class FileMetrics:
    """Counts files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes = Gauge(
            "headrace_monitoring_events_bytes", "Size of the stored events.", registry=registry
        )
        self.closed = Counter(
            "headrace_monitoring_event_files", "Files that were written.", registry=registry
        )
        self.unreadable = Counter(
            "headrace_monitoring_unreadable_event_files",
            "Files that are damaged, gone, or were not written here.",
            registry=registry,
        )
        self.failing = Gauge(
            "headrace_monitoring_event_files_failing",
            "1 while events can't be put into files, as when the bucket can't be reached; they wait in the database. `work`: what"
            " fails; `pipeline`: empty: it is about all.",
            ["work", "pipeline"],
            registry=registry,
        )
        self.failing.labels("close", "")
