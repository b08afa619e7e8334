"""`race`: this build in both shapes and what people would pick instead, on the same flights, one after another in one run.

Same client (perf_analyzer, closed loop), same requests, same model file, same Redis. The peers' features come in two
reads of what one process packed for them, ours in five views of Feast's: the work is theirs or more.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from load.driving import Drive
from load.peers import our_features, peer, redis_server, vectors
from load.profile import Point, measure
from load.rows import perf_analyzer_inputs, rows
from load.systems import Setup, configuration, headrace

OURS = ("headrace together", "headrace apart")
PIPELINE = ("ref_chain", "ref_mono", "triton", "kserve", "mlserver")
MODEL = ("triton_batch", "kserve", "mlserver")
_NAMES = {
    "ref_chain": "naive chain, six processes",
    "ref_mono": "hand-written, one process",
    "triton": "Triton ensemble",
    "triton_batch": "Triton, dynamic batching",
    "kserve": "KServe",
    "mlserver": "MLServer",
}
Results = dict[str, tuple[dict[int, Point], float]]


def run(options: argparse.Namespace) -> None:
    """`race`."""
    chosen = options.systems or [*OURS, *(PIPELINE if options.part == "pipeline" else MODEL)]
    results: Results = {}
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(options.peers, options.home))
        feast = our_features(options.home, redis)
        print(configuration(Setup(options.home, "together", feast=feast)))
        print(
            f"{options.part}; perf_analyzer on the same cores; {options.runs} runs of three 1 s windows\n",
            flush=True,
        )
        for name in chosen:
            with _system(options, name, feast) as system:
                results[name] = measure(system, options.conc, options.runs)
            for c, point in results[name][0].items():
                print(f"  {name}, c = {c}: {_brief(point)}", flush=True)
    _table(options, results)
    _keep(options, results)


@contextmanager
def _system(options: argparse.Namespace, name: str, feast: Any) -> Iterator[tuple[Drive, set[int]]]:
    if name not in OURS:
        with peer(options.peers, options.part, name, options.home) as system:
            yield system
        return
    shape = "together" if name.endswith("together") else "apart"
    with headrace(Setup(options.home, shape, feast=feast)) as running:  # type: ignore[arg-type]  # it is one of two
        [key] = running.keys.values()
        if options.part == "pipeline":
            inputs = perf_analyzer_inputs(rows(options.home), options.home / "data" / "perf_analyzer.json")
            yield Drive(running.target, "flights", inputs, key), set(running.pids)
        else:
            yield Drive(running.target, "flights_light", vectors(options.home, [24]), key), set(running.pids)


def _brief(point: Point) -> str:
    if not point.figures:
        return f"failed: {point.failures[-1]}"
    rate, p50, p99, cpu = point.median()
    return f"{rate:.0f}/s, p50 {p50 / 1e3:.2f}, p99 {p99 / 1e3:.2f} ms, {cpu:.0f} µs"


def _table(options: argparse.Namespace, results: Results) -> None:
    ours = [name for name in results if name in OURS]
    heads = "".join(f" {name.removeprefix('headrace ')} is × |" for name in ours)
    print(f"\n| system | c | req/s | p50 ms | p99 ms | CPU µs/req | PSS MB |{heads}")
    print("|---|" + "--:|" * (6 + len(ours)), flush=True)
    for c in options.conc:
        for name, (points, memory) in results.items():
            point, label = points[c], _NAMES.get(name, name)
            if not point.figures:
                print(
                    f"| {label} | {c} | failed: {point.failures[-1]} | | | | {memory:.0f} |"
                    + " – |" * len(ours)
                )
                continue
            rate, p50, p99, cpu = point.median()
            rates = [f.rate for f in point.figures]
            busy = " ~" if statistics.median(point.other_cores) > 0.2 else ""
            ratios = "".join(f" {_ratio(results[o][0][c], rate)} |" for o in ours)
            print(
                f"| {label} | {c} | {rate:.0f} [{min(rates):.0f}–{max(rates):.0f}]{busy} | {p50 / 1e3:.2f} "
                f"| {p99 / 1e3:.2f} | {cpu:.0f} | {memory:.0f} |{ratios}"
            )
    print("\n~: others used more than 0.2 cores meanwhile; [least–most]", flush=True)


def _ratio(ours: Point, rate: float) -> str:
    return f"{ours.median()[0] / rate:.2f}" if ours.figures else "–"


def _keep(options: argparse.Namespace, results: Results) -> None:
    """The medians, for the picture."""
    systems = {
        _NAMES.get(name, name): [
            {"c": c, "rate": p.median()[0], "p50_ms": p.median()[1] / 1e3, "p99_ms": p.median()[2] / 1e3}
            for c, p in points.items()
            if p.figures
        ]
        for name, (points, _) in results.items()
    }
    what = "flights, the whole pipeline" if options.part == "pipeline" else "flights_light, the model alone"
    options.out.write_text(json.dumps({"what": what, "systems": systems}, indent=1) + "\n")
    print(f"kept in {options.out}")
