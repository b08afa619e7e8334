"""`shadow`: what a shadow that gets far more than it can run costs the live arm, at half the peak; see `windows`.

The shadow runs the heavy model for every request. What it ran and what was dropped is in its own report.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from headrace.api.router.v1 import router_pb2 as pb
from headrace.api.router.v1 import shadow_pb2
from headrace.cli.installation import layout
from headrace.comparison import ComparisonReport, merged
from headrace.comparison.messages import read_report
from headrace.hop.call import unary
from headrace.hop.client.dial import Client
from headrace.hop.client.settings import ClientRules
from headrace.hop.errors import Fault
from load.scenarios.releases.windows import PIPELINE, at_part_of_peak, in_turns, verdict
from load.systems.releases import ReleaseSwitch

_ARM = "heavy"
_REPORT = unary(
    pb.DESCRIPTOR,
    "RouterService",
    "GetShadowReport",
    shadow_pb2.GetShadowReportRequest,
    shadow_pb2.GetShadowReportResponse,
    idempotent=True,
)


def run(options: argparse.Namespace) -> None:
    """Prints the table, and what the shadow ran."""
    with at_part_of_peak(options) as (running, rate):
        shadows = _Switch(options.home)
        pairs = in_turns(running, rate, options, shadows.set)
        report = shadows.report()
    print("\n" + verdict(pairs, "the shadow"))
    _print_report(report, rate * options.seconds * len(pairs))


def _print_report(report: ComparisonReport | None, offered: float) -> None:
    """`offered`: rows that were copied."""
    if report is None or not report.rows:
        print("no row has run on the shadow")
        return
    live, shadow = report.live_seconds.quantile(0.5) * 1e3, report.shadow_seconds.quantile(0.5) * 1e3
    print(
        f"shadow: {offered:.0f} rows copied, {report.rows} run: {offered / report.rows:.1f} times what it ran; "
        f"dropped {json.dumps(report.dropped)}, the others wait; p50 of a row {live:.2f} ms live, {shadow:.2f} ms shadow"
    )


class _Switch:
    """Turns the shadow on and off."""

    def __init__(self, home: Path) -> None:
        self._releases = ReleaseSwitch(home, PIPELINE)
        place = layout.of(home)
        self._target = f"unix-dir:{place.listed('router')}"
        text = (place.pipelines / PIPELINE / "pipeline.yaml").read_text()
        heavy = text.replace("name: flights_light", "name: flights_heavy")
        self._arm = self._releases.arm(heavy, {"flights_heavy": "1"})

    def set(self, on: bool) -> None:
        """Commits a release with the shadow, or without."""
        shadow = {"arm": _ARM, "share": 1.0} if on else None
        self._releases.commit("shadow", arms={_ARM: self._arm}, shadow=shadow)

    def report(self) -> ComparisonReport | None:
        """Of all windows with a shadow together."""
        found = asyncio.run(self._reports())
        for report in found:
            report.release = 0
        whole = merged(found)
        return whole[0] if whole else None

    async def _reports(self) -> list[ComparisonReport]:
        client = Client("router", ClientRules(self._target))
        request = shadow_pb2.GetShadowReportRequest(pipeline=PIPELINE)
        try:
            replies = await client.each(_REPORT)(request, deadline=time.monotonic() + 5)
        finally:
            await client.close()
        return [
            read_report(m) for r in replies if not isinstance(r, Fault) for m in r.reports if m.arm == _ARM
        ]
