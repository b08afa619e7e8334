"""Alerts of processes, whatever service they are."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert

TARGET_DOWN = "HeadraceTargetDown"
_DAY_S = 86_400


def _ends_within(days: int) -> str:
    """0: the process has no certificate."""
    ends = '{__name__=~"headrace_certificate_end_seconds|headrace_ingress_certificate_end_seconds"}'
    return f"min by (instance) ({ends} > 0) - time() < {days * _DAY_S}"


PROCESSES = (
    Alert(
        TARGET_DOWN,
        PAGE,
        'up{job="headrace"} == 0',
        MINUTE_S,
        "{{ $labels.instance }} does not answer Prometheus",
        "headrace status",
        failure="F5",
    ),
    Alert(
        "HeadraceCrashLoop",
        PAGE,
        'changes(process_start_time_seconds{job="headrace"}[15m]) >= 3',
        0,
        "{{ $labels.instance }} started {{ $value }} times within 15 minutes",
        "headrace logs {{ $labels.instance }}",
        failure="F5",
    ),
    Alert(
        "HeadraceNotReady",
        PAGE,
        "headrace_ready == 0",
        2 * MINUTE_S,
        "{{ $labels.service }} runs but takes no calls",
        "headrace status",
        follows=(TARGET_DOWN, "HeadraceCrashLoop"),
    ),
    Alert(
        "HeadraceLoopBlocked",
        TICKET,
        "headrace_loop_heartbeat_age_seconds > 5",
        MINUTE_S,
        "the event loop of {{ $labels.instance }} has not run for {{ $value | humanizeDuration }}",
        "headrace logs {{ $labels.instance }}",
        failure="F1",
    ),
    Alert(
        "HeadraceBreakerOpen",
        TICKET,
        "max by (instance, callee) (headrace_hop_breaker_state) == 2",
        MINUTE_S,
        "{{ $labels.instance }} does not call {{ $labels.callee }}: its breaker is open",
        "headrace status",
        follows=(TARGET_DOWN, "HeadraceCrashLoop"),
    ),
    Alert(
        "HeadraceDiskWritesFailing",
        PAGE,
        # Not `or`: in the shape together these differ by nothing but their names.
        'max by (instance) ({__name__=~"headrace_monitoring_storage_failing|headrace_monitoring_events_failing|'
        'headrace_executor_unsaved|headrace_ingress_security_log_failing"}) == 1',
        MINUTE_S,
        "{{ $labels.instance }} can't write its files: the disk is full, or its permissions are wrong",
        "headrace doctor",
    ),
    Alert(
        "HeadraceCertificateExpiring",
        TICKET,
        _ends_within(14),
        0,
        "a certificate of {{ $labels.instance }} ends within 14 days",
        "headrace doctor",
        follows=("HeadraceCertificateEnding",),
    ),
    Alert(
        "HeadraceCertificateEnding",
        PAGE,
        _ends_within(2),
        0,
        "a certificate of {{ $labels.instance }} ends within 2 days, or has ended",
        "headrace doctor",
    ),
    Alert(
        "HeadraceCertificateRefused",
        TICKET,
        'max by (instance) ({__name__=~"headrace_certificate_refused|headrace_ingress_certificate_refused"}) == 1',
        0,
        "{{ $labels.instance }} refuses new TLS files and serves the ones before",
        "headrace logs {{ $labels.instance }}",
    ),
)
