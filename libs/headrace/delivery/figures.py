"""The four figures of delivery (DORA): how often, how fast, how often badly, and how fast that was mended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from headrace.delivery.records import Deployment, Result


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one span of time; None: nothing to tell it from.

    `per_day`: successful deployments a day. `lead_s`: median seconds from commit to the end of a successful deployment; those
    that put an earlier version back do not count. `failure_ratio`: share of the ended ones that failed or were rolled back.
    `recovery_s`: median seconds from the begin of a failed one to when all ran one version again: its own rollback, or the next
    success.
    """

    succeeded: int
    rolled_back: int
    failed: int
    per_day: float
    lead_s: float | None
    failure_ratio: float | None
    recovery_s: float | None


def figures(deployments: Sequence[Deployment], now: datetime, span: timedelta) -> Figures:
    """Of the deployments (in their order) that began within `span` before `now`."""
    found = [d for d in deployments if now - span <= d.began and d.result is not Result.RUNNING]
    by = {result: [d for d in found if d.result is result] for result in Result}
    succeeded, bad = by[Result.SUCCEEDED], [*by[Result.ROLLED_BACK], *by[Result.FAILED]]
    leads = [
        (d.ended - d.committed).total_seconds()
        for d in succeeded
        if d.ended is not None and d.committed is not None and not d.restored
    ]
    recoveries = [
        (end - d.began).total_seconds() for d in bad if (end := _mended(d, deployments)) is not None
    ]
    return Figures(
        succeeded=len(succeeded),
        rolled_back=len(by[Result.ROLLED_BACK]),
        failed=len(by[Result.FAILED]),
        per_day=len(succeeded) / (span / timedelta(days=1)),
        lead_s=median(leads) if leads else None,
        failure_ratio=len(bad) / len(found) if found else None,
        recovery_s=median(recoveries) if recoveries else None,
    )


def _mended(bad: Deployment, deployments: Sequence[Deployment]) -> datetime | None:
    if bad.result is Result.ROLLED_BACK:
        return bad.ended
    later = (d for d in deployments if d.began > bad.began and d.target == bad.target)
    return next((d.ended for d in later if d.result is Result.SUCCEEDED), None)
