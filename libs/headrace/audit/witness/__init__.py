"""Witnesses: keep the last checkpoint of a log elsewhere, and sign a newer one only if the log grew from it."""

from headrace.audit.witness.client import Asked, FolderTransport, HttpTransport, WitnessClient, WitnessError
from headrace.audit.witness.decision import RefusedError, Witness
from headrace.audit.witness.timestamps import TimestampClient

__all__ = [
    "Asked",
    "FolderTransport",
    "HttpTransport",
    "RefusedError",
    "TimestampClient",
    "Witness",
    "WitnessClient",
    "WitnessError",
]
