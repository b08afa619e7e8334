"""Lease and ladder at control."""

from __future__ import annotations

from headrace.catalog.access import LeaseToken, Records
from headrace.catalog.remote import RemoteRecords
from headrace.releases.ladder import LEASE, Answer, Report, answer_of, report_message

# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_S = 5.0


class ControlLease:
    """A lease of control's, by its database's clock. Of what its holder says after it has ended, control makes nothing."""

    def __init__(self, records: Records, holder: str, lease_s: float = LEASE_S) -> None:
        self._records = records
        self._holder = holder
        self._lease_s = lease_s
        self.token = ""

    def hold(self) -> bool:
        """Takes the lease or prolongs it; then `token` proves that it is held. Blocks. Raises OSError: it can't be known.

        A lease that has ended is not taken again at once: its holder must first forget what it knew."""
        self.token = self._records.take_lease(LEASE, self._holder, self._lease_s, self.token)
        return bool(self.token)

    def release(self) -> None:
        """Gives it back, if it is held. Blocks. Raises OSError."""
        held, self.token = self.token, ""
        if held:
            self._records.give_back(LeaseToken(LEASE, held))


class ControlLadder:
    """That of control."""

    def __init__(self, records: RemoteRecords) -> None:
        self._records = records

    def report(self, report: Report) -> Answer:
        """See ports.Ladder."""
        return answer_of(self._records.report_verdict(report_message(report)))
