"""`explanations`: how exact they are, how long one takes, and what they cost the live arm. At half the peak, open loop.

Windows without explanations, with each prediction explained as far as it goes, and without again take turns: the two without show
how much figures differ by themselves (A/A). `--pictures`: in place of that, a caller has pictures explained, one after the other,
by the same services. Errors are those of the sampled values against exact ones, of the real model with 12 of its columns free and
the others as the base row has them: more have too many coalitions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.cli.installation import layout
from headrace.drift import FILE, NumberBaseline, parse
from headrace.explanations import MOST_ROUNDS, coalitions_of, contributions, precise
from headrace.explanations.base_row import median
from headrace.releases import LIVE, Arm
from load.scenarios.overload import OverloadSettings, find_peak
from load.scenarios.releases.explained_pictures import ExplainedPictures
from load.scenarios.releases.shadow import Window, verdict, window
from load.systems.headrace import Setup, configuration, headrace
from load.systems.releases import ReleaseSwitch

_PIPELINE, _MODEL, _TENSOR = "flights", "flights_light", "input"
_DEADLINE_S = 1.0
_FREE = 12
# What waits after a window is at most this long in the way of the next one.
_IDLE_S = 60.0
_HEAD = "| pair | p50 ms off, on, off | p99 ms off, on, off | failed | others' cores |\n|--:|---|---|--:|--:|"
_METRIC = re.compile(r"^(headrace_router_explanation\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
Floats = NDArray[np.float64]


def run(options: argparse.Namespace) -> None:
    """Prints errors, then the table. Raises SystemExit if the live arm suffers more than it may, or an error is too large."""
    if options.rows:
        _errors(options.home, options.rows)
    setup = Setup(options.home, "apart", options.servers)
    everyone = frozenset(os.sched_getaffinity(0))
    with headrace(setup) as running:
        print(configuration(setup), flush=True)
        rules = OverloadSettings(_PIPELINE, _DEADLINE_S, 3.0, 1, options.clients or everyone)
        peak = options.peak or find_peak(running, rules)
        rate = peak * options.part
        print(
            f"peak {peak:.0f}/s; {rate:.0f}/s sent; {options.pairs} pairs of windows of {options.seconds:g} s\n"
        )
        switch = ExplainedPictures(running) if options.pictures else _Switch(options.home)
        scrape = _scraper(options.home)
        before, pairs = scrape(), list[list[Window]]()
        try:
            print(_HEAD, flush=True)
            for number in range(options.pairs):
                windows = []
                for turn, on in enumerate((False, True, False)):
                    switch.set(on=on)
                    windows.append(window(running, rate, options, seed=number * 3 + turn))
                    if isinstance(switch, ExplainedPictures):
                        switch.back()
                    elif on:
                        _wait_until_idle(scrape)
                _row(number, windows)
                pairs.append(windows)
        finally:
            switch.back()
        if isinstance(switch, ExplainedPictures):
            each = f", {switch.seconds / switch.explained:.2f} s each" if switch.explained else ""
            print(f"\n{switch.explained} pictures explained{each}; {switch.failed} failed")
        else:
            _told(before, scrape(), rate * options.seconds * options.pairs)
        print(verdict(pairs, "explanations"))


def _row(number: int, windows: Sequence[Window]) -> None:
    p50 = ", ".join(f"{w.p50:.2f}" for w in windows)
    p99 = ", ".join(f"{w.p99:.2f}" for w in windows)
    failed, others = sum(w.failed for w in windows), max(w.other_cores for w in windows)
    print(f"| {number + 1} | {p50} | {p99} | {failed} | {others:.2f} |", flush=True)


class _Switch:
    """Makes each prediction explained, or none, by releases of the live arm."""

    def __init__(self, home: Path) -> None:
        self._releases = ReleaseSwitch(home, _PIPELINE)
        self._first: Arm = self._releases.current().arms[LIVE]
        text = (layout.of(home).pipelines / _PIPELINE / "pipeline.yaml").read_text()
        demanded = text.replace("\nobjectives:", "\nexplanations: {demanded: true}\nobjectives:", 1)
        self._demanding = self._releases.arm(demanded, self._first.models)

    def set(self, *, on: bool) -> None:
        self._releases.commit("explanations", arms={LIVE: self._demanding if on else self._first})

    def back(self) -> None:
        self.set(on=False)


def _scraper(home: Path) -> Callable[[], dict[str, float]]:
    """Reads the router's metrics of explanations."""
    found = json.loads((layout.of(home).home / "run" / "prometheus.json").read_text())
    address = next((t["targets"][0] for t in found if t["labels"]["instance"] == "router"), "")

    def scrape() -> dict[str, float]:
        if not address:
            return {}
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        return {f"{m[1]}{{{m[2] or ''}}}": float(m[3]) for m in _METRIC.finditer(text)}

    return scrape


def _wait_until_idle(scrape: Callable[[], dict[str, float]]) -> None:
    """What still waits belongs to no window without explanations."""
    ends = time.monotonic() + _IDLE_S
    while scrape().get("headrace_router_explanations_waiting_rows{}", 0) and time.monotonic() < ends:
        time.sleep(0.5)


def _told(before: dict[str, float], after: dict[str, float], offered: float) -> None:
    change = {key: value - before.get(key, 0.0) for key, value in after.items()}
    count = change.get("headrace_router_explanation_seconds_count{}", 0)
    seconds = change.get("headrace_router_explanation_seconds_sum{}", 0)
    print(f"\n{offered:.0f} predictions had to be explained; {count:.0f} were", end="")
    print(f", {seconds / count * 1e3:.1f} ms of stages each" if count else "")
    for key, value in sorted(change.items()):
        if "explanations_total" in key and value:
            print(f"  {key}: {value:.0f}")
    print(f"  rows of a piece: {after.get('headrace_router_explanation_piece_rows{}', 0):.0f}")


def _errors(home: Path, rows: int) -> None:
    """Prints the largest error against exact values as a share of the largest contribution. Raises SystemExit beyond 5 %."""
    run_model, base, draw = _model(home)
    worst, rounds_used, seconds = [], [], []
    for number in range(rows):
        random = np.random.default_rng(number)
        row = draw(random)
        free = random.choice(len(base), _FREE, replace=False)

        def outputs(masks: NDArray[np.bool_], row: Floats = row, free: NDArray[np.intp] = free) -> Floats:
            given = np.tile(base, (len(masks), 1))
            given[:, free] = np.where(masks, row[free], base[free])
            return run_model(given)

        every = coalitions_of(_FREE, b"", most_exact=_FREE)
        exact = contributions([(every, outputs(every.masks))])
        began, rounds = time.perf_counter(), []
        for turn in range(MOST_ROUNDS):
            asked = coalitions_of(_FREE, number.to_bytes(4, "big"), turn)
            rounds.append((asked, outputs(asked.masks)))
            sampled = contributions(rounds)
            if precise(sampled):
                break
        seconds.append(time.perf_counter() - began)
        rounds_used.append(len(rounds))
        worst.append(float(np.abs(sampled.values - exact.values).max() / np.abs(exact.values).max()))
    print(
        f"{rows} rows, {_FREE} of {len(base)} columns free: largest error {max(worst):.2%} of the largest contribution"
        f" (median {statistics.median(worst):.2%}), {statistics.mean(rounds_used):.1f} rounds on average,"
        f" {statistics.median(seconds) * 1e3:.1f} ms each in one thread without hops",
        flush=True,
    )


def _model(home: Path) -> tuple[Callable[[Floats], Floats], Floats, Callable[[np.random.Generator], Floats]]:
    """The model's probability of its assembled inputs, the base row, and what draws rows like those that it learned from."""
    # Only this measurement needs it, and it takes a second.
    import onnxruntime  # type: ignore[import-untyped]  # it has no types

    folder = layout.of(home).models / _MODEL / "1"
    session = onnxruntime.InferenceSession((folder / "model.onnx").read_bytes())
    baseline = parse((folder / FILE).read_bytes())
    abouts = [baseline.columns[name] for name in baseline.tensors[_TENSOR]]
    numbers = [about for about in abouts if isinstance(about, NumberBaseline)]

    def probability(rows: Floats) -> Floats:
        [found] = session.run(["probabilities"], {_TENSOR: rows.astype(np.float32)})
        return np.asarray(found[:, 1], np.float64)

    def draw(random: np.random.Generator) -> Floats:
        return np.array(
            [np.clip(random.normal(a.mean, a.std or 1.0), a.low, a.high) for a in numbers], np.float64
        )

    return probability, np.array([median(a) or 0.0 for a in numbers], np.float64), draw
