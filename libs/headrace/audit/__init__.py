"""The audit log: an append-only, tamper-evident log of what was done and refused, which other verifiers can read."""

from headrace.audit.access import Access, AccessError
from headrace.audit.collector import Collector
from headrace.audit.journals import Journal
from headrace.audit.notes import NoteError, Signer, Verifier
from headrace.audit.persons.payloads import Payloads
from headrace.audit.verification import Report, verify
from headrace.audit.writer import LogBusyError, LogError, Writer

__all__ = [
    "Access",
    "AccessError",
    "Collector",
    "Journal",
    "LogBusyError",
    "LogError",
    "NoteError",
    "Payloads",
    "Report",
    "Signer",
    "Verifier",
    "Writer",
    "verify",
]
