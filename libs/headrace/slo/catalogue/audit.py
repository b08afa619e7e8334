"""Alerts of the audit log: it is not kept, or somebody changed what it holds."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert
from headrace.slo.catalogue.processes import TARGET_DOWN

AUDIT_FAILING = "HeadraceAuditFailing"

AUDIT = (
    Alert(
        AUDIT_FAILING,
        PAGE,
        "max by (instance) (headrace_audit_failing) == 1",
        2 * MINUTE_S,
        "the audit log is not kept: it can't be written, or it does not hold; journals keep what comes",
        "headrace audit verify",
        follows=("HeadraceDiskWritesFailing",),
    ),
    Alert(
        "HeadraceAuditNotKept",
        TICKET,
        "max(headrace_audit_leads) == 0",
        5 * MINUTE_S,
        "no process keeps the audit log",
        "headrace status",
        follows=(TARGET_DOWN, AUDIT_FAILING),
    ),
    Alert(
        "HeadraceAuditGap",
        PAGE,
        # A gauge that begins with 0 in each process.
        "max by (instance) (headrace_audit_gaps) "
        "> max by (instance) (headrace_audit_gaps offset 15m or 0 * headrace_audit_gaps)",
        0,
        "a journal of the audit was not there or not whole: lines may have been removed before they were in the log",
        "headrace audit verify",
    ),
    Alert(
        "HeadraceAuditWitnessRefused",
        PAGE,
        "max by (witness) (headrace_audit_witness_refused) == 1",
        0,
        "witness {{ $labels.witness }} refused the checkpoint: the audit log was truncated or written anew",
        "headrace audit verify",
    ),
    Alert(
        "HeadraceAuditWitnessUnreachable",
        TICKET,
        "max by (witness) (headrace_audit_witness_unreachable) == 1",
        15 * MINUTE_S,
        "witness {{ $labels.witness }} does not answer: what the log's owner changes now, nobody sees",
        "headrace logs monitoring",
    ),
)
