"""`explanations`: what explaining each prediction, as far as it goes, costs the answers at half the peak; see `windows`."""

from __future__ import annotations

import argparse
import json
import re
import time
import urllib.request
from pathlib import Path

from headrace.cli.installation import layout
from headrace.releases import LIVE, Arm
from load.scenarios.releases.windows import PIPELINE, at_part_of_peak, in_turns, verdict
from load.systems.releases import ReleaseSwitch

# What waits after a window is at most this long in the way of the next one.
_IDLE_S = 60.0


def run(options: argparse.Namespace) -> None:
    """Prints the table, and how many predictions were explained."""
    with at_part_of_peak(options) as (running, rate):
        switch = _Switch(options.home)
        before = switch.counted("explanation_seconds_count")
        pairs = in_turns(running, rate, options, switch.set)
        explained = switch.counted("explanation_seconds_count") - before
    offered = rate * options.seconds * options.pairs
    print(f"\n{offered:.0f} predictions had to be explained; {explained:.0f} were")
    print(verdict(pairs, "explanations"))


class _Switch:
    """Makes each prediction explained, or none, by releases of the live arm."""

    def __init__(self, home: Path) -> None:
        place = layout.of(home)
        self._releases = ReleaseSwitch(home, PIPELINE)
        self._first: Arm = self._releases.current().arms[LIVE]
        text = (place.pipelines / PIPELINE / "pipeline.yaml").read_text()
        demanded = text.replace("\nobjectives:", "\nexplanations: {demanded: true}\nobjectives:", 1)
        self._demanding = self._releases.arm(demanded, self._first.models)
        targets = json.loads((place.home / "run" / "prometheus.json").read_text())
        [self._router] = [t["targets"][0] for t in targets if t["labels"]["instance"] == "router"]

    def set(self, on: bool) -> None:
        """Turns it on; or off, after which nothing waits: that belongs to no window without explanations."""
        self._releases.commit("explanations", arms={LIVE: self._demanding if on else self._first})
        ends = time.monotonic() + _IDLE_S
        while not on and self.counted("explanations_waiting_rows") and time.monotonic() < ends:
            time.sleep(0.5)

    def counted(self, name: str) -> float:
        """A metric of the router's explanations."""
        with urllib.request.urlopen(f"http://{self._router}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        return sum(map(float, re.findall(rf"^headrace_router_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))
