"""The audit keeper's instruments. Labels are names of witnesses in the settings."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge


class AuditMetrics:
    """How the audit log is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.leads = Gauge(
            "headrace_audit_leads", "1 if this process writes the audit log.", registry=registry
        )
        self.failing = Gauge(
            "headrace_audit_failing",
            "1 while the audit log can't be written or a journal not be read; journals keep what comes.",
            registry=registry,
        )
        self.entries = Gauge("headrace_audit_entries", "Entries of the audit log.", registry=registry)
        self.uncovered = Gauge(
            "headrace_audit_uncovered_entries", "Entries that no checkpoint covers yet.", registry=registry
        )
        self.gaps = Gauge(
            "headrace_audit_gaps",
            "How often a journal was not there or not whole when it was read, since this process began.",
            registry=registry,
        )
        self.shared_failing = Gauge(
            "headrace_audit_shared_failing",
            "1 while the audit that machines share in Redis can't be copied.",
            registry=registry,
        )
        self.shared_gaps = Gauge(
            "headrace_audit_shared_gaps",
            "How often the audit in Redis was not as it should be, since this process began.",
            registry=registry,
        )
        self.unreachable = Gauge(
            "headrace_audit_witness_unreachable",
            "1 while a witness can't be asked, or its answer is no signature of the log.",
            ("witness",),
            registry=registry,
        )
        self.refused = Gauge(
            "headrace_audit_witness_refused",
            "1 if a witness refused the last checkpoint: the log may have been truncated or written anew.",
            ("witness",),
            registry=registry,
        )
