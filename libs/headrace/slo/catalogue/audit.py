"""Alerts of the audit: a journal can't be followed or is not as it was, or the head does not leave the machine."""

from __future__ import annotations

from headrace.slo.alert import MINUTE_S, PAGE, TICKET, Alert

AUDIT_FAILING = "HeadraceAuditFailing"

AUDIT = (
    Alert(
        AUDIT_FAILING,
        PAGE,
        "max by (instance) (headrace_audit_failing) == 1",
        2 * MINUTE_S,
        "a journal can't be followed into the audit: it can't be read, or control's database not be written; journals hold what"
        " comes",
        "headrace audit verify",
        follows=("HeadraceDiskWritesFailing",),
    ),
    Alert(
        "HeadraceAuditGap",
        PAGE,
        # A gauge that begins with 0 in each process.
        "max by (instance) (headrace_audit_gaps) "
        "> max by (instance) (headrace_audit_gaps offset 15m or 0 * headrace_audit_gaps)",
        0,
        "a journal of the audit was not there, not whole or altered: lines may have been removed before they were in the audit",
        "headrace audit verify",
    ),
    Alert(
        "HeadraceAuditNotExported",
        TICKET,
        "max by (instance) (headrace_audit_export_failing) == 1",
        15 * MINUTE_S,
        "the audit's signed head can't be written to the folder outside, so nobody sees there what the database's owner changes",
        "headrace logs control",
    ),
)
