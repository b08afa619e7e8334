"""`cascade`: what a cascade saves, and what quality it costs, on real flights (deploy/examples/flights_cascade).

The threshold is chosen by `headrace cascade tune`'s own code on half of the flights of November and December, and judged on
the other half. With `--door`, the executor's CPU is measured too, in a running system that answers requests of 64 rows by the
light model alone, the heavy one alone, and the cascade.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from deploy.examples.flights_cascade.prepare import DOCUMENT, HEAVY, JUDGE, LIGHT, TUNE, prepare
from headrace.cli.tuning import cascade_curve as curves
from headrace.cli.tuning.cascade_curve import Labelled
from headrace.cli.tuning.cascade_rows import labelled_rows
from headrace.cli.tuning.offline_run import Models, columns_for, cpu_us, model_columns
from headrace.columns import Batch
from headrace.pipeline import CascadeStage, load
from headrace.repository import Repository
from load.generator.closed_loop import Target, drive
from load.generator.flight_requests import rows_message
from load.systems.headrace import Running, Setup, configuration, headrace, status

Floats = NDArray[np.float64]
# Mean cost of a flight. A tenth of the gap can't be proven with so few flights; what was lost is measured on others.
BUDGET = 0.001
_ALPHA = 0.05
_ROWS = 64
_RESAMPLES = 1000
_SEED = 5
_CPU_RUNS = 5
_ROUNDS, _SECONDS, _AT_ONCE = 3, 3.0, 4


@dataclass(frozen=True, slots=True)
class Half:
    """Half of the labelled flights: what each model says of them, and what its decisions cost."""

    batch: Batch
    late: NDArray[np.bool_]
    light: Floats
    heavy: Floats
    costs: Labelled


def run(options: argparse.Namespace) -> None:
    """`cascade`."""
    prepare(options.home, lambda step, done, total: print(f"  {step} ({done}/{total})", flush=True))
    document = load(DOCUMENT)
    [stage] = [s for s in document.stages if isinstance(s, CascadeStage)]
    models = Models(Repository(options.home / "models"))

    def half(name: str) -> Half:
        found = [json.loads(line) for line in (options.home / "data" / name).read_text().splitlines()]
        batch = columns_for(document, stage, found, models)
        late = np.array([row["late"] for row in found], bool)
        light, heavy = (_late(part, batch, models) for part in (stage.light, stage.heavy))
        return Half(batch, late, light, heavy, labelled_rows(stage, batch, late.astype(np.int64), models))

    tuned, judged = half(TUNE), half(JUDGE)
    points = curves.curve(tuned.costs, curves.grid(tuned.costs.margins, stage.unsure.decision), _ALPHA)
    best = curves.chosen(points, BUDGET)
    if best is None:
        raise SystemExit("no threshold keeps the budget")
    parts = {"light": stage.light, "heavy": stage.heavy}
    cpu = {
        name: [cpu_us(part, judged.batch.columns, models, _ROWS) for _ in range(_CPU_RUNS)]
        for name, part in parts.items()
    }
    print(report(judged, best.threshold, {name: statistics.median(v) for name, v in cpu.items()}))
    for name, values in cpu.items():
        print(f"  {name}: {statistics.median(values):.2f} µs a row ({min(values):.2f} to {max(values):.2f})")
    if options.door:
        _through_the_door(options.home, best.threshold)


def _late(part: Any, batch: Batch, models: Models) -> Floats:
    [column] = model_columns(part, batch.columns, models).values()
    return column.array[:, 1].astype(np.float64)


def report(half: Half, threshold: float, cpu: Mapping[str, float]) -> str:
    """What the cascade does on flights that did not choose its threshold, with 95 % intervals over resampled flights."""
    alone = half.costs.margins >= threshold
    cost = np.where(alone, half.costs.light, half.costs.heavy)
    says = np.where(alone, half.light, half.heavy)
    light, heavy = half.costs.light, half.costs.heavy

    def figures(at: NDArray[np.intp] | slice) -> list[float]:
        gap, lost = (light[at] - heavy[at]).mean(), (cost[at] - heavy[at]).mean()
        share = 1 - alone[at].mean()
        saved = 1 - (cpu["light"] + share * cpu["heavy"]) / cpu["heavy"]
        each = [100 * (1 - share), 100 * saved, 100 * lost / gap, gap, lost]
        losses = [values[at].mean() for values in (light, heavy, cost)]
        return [
            float(v)
            for v in [*each, *losses, *(auc(p[at], half.late[at]) for p in (half.light, half.heavy, says))]
        ]

    names = [
        "rows that the heavy model is spared, %",
        "CPU of the heavy model alone that is saved, %",
        "of the gap lost, %",
    ]
    names += ["gap: loss of light above heavy", "lost: loss of the cascade above heavy"]
    names += [
        f"{what} of {who}" for what in ("decision loss", "AUC") for who in ("light", "heavy", "cascade")
    ]
    random, count = np.random.default_rng(_SEED), len(alone)
    drawn = np.array([figures(random.integers(0, count, count)) for _ in range(_RESAMPLES)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    head = f"threshold {threshold:.4g}, judged on {count} flights:"
    lines = [
        f"  {name}: {value:.4g} ({a:.4g} to {b:.4g})"
        for name, value, a, b in zip(names, figures(slice(None)), low, high, strict=True)
    ]
    return "\n".join([head, *lines])


def auc(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """The probability that a positive row has a greater score than a negative one; equal scores count half."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    rank = (last - (count - 1) / 2)[place]
    hits = int(positive.sum())
    return float((rank[positive].sum() - hits * (hits + 1) / 2) / (hits * (len(scores) - hits)))


def _through_the_door(home: Path, threshold: float) -> None:
    documents = [_document(name, edit) for name, edit in _edits(threshold).items()]
    setup = Setup(home, documents=documents)
    print(configuration(setup), flush=True)
    # The last flights of the data, of whose time the features are that the store holds.
    asked = [json.loads(line) for line in (home / "data" / "requests.jsonl").read_text().splitlines()]
    groups = [asked[i : i + _ROWS] for i in range(0, len(asked) - _ROWS + 1, _ROWS)]
    found: dict[str, list[float]] = {d["pipeline"]: [] for d in documents}
    with headrace(setup) as running:
        for turn in range(_ROUNDS):
            for name in found:
                target = _target(running, [rows_message(name, group) for group in groups])
                figures = drive(target, _AT_ONCE, _SECONDS, seed=turn)
                if figures.failed:
                    raise SystemExit(f"{name}: {figures.failed} requests failed")
                found[name].append(figures.server_us / _ROWS)
        asked_rows = _asked(home)
    for name, values in found.items():
        spread = f"{min(values):.2f} to {max(values):.2f}"
        print(f"  executor's CPU, {name}: {statistics.median(values):.2f} µs a row ({spread})")
    print(f"  of the cascade's rows {asked_rows[HEAVY] / asked_rows[LIGHT]:.1%} went to the heavy model")


def _asked(home: Path) -> dict[str, float]:
    """For how many rows the cascade asked each model, as the router counts it."""
    url = status(home)["services"]["router"]["metrics"]
    with urllib.request.urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    found = re.findall(r"^headrace_router_member_rows_total\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    named = [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]
    return {labels["member"]: value for labels, value in named if labels["pipeline"] == "flights_cascade"}


def _target(running: Running, messages: list[bytes]) -> Target:
    executor = frozenset(pid for service, pid in running.services.items() if service.startswith("executor"))
    others = running.pids - executor
    return Target(
        running.target,
        messages,
        running.keys["load"],
        executor,
        lambda _replies: "not verified",
        helpers=others,
    )


def _edits(threshold: float) -> dict[str, Callable[[dict[str, Any]], None]]:
    """The documents that are compared: the cascade, and each of its models for every row."""

    def at(value: float) -> Callable[[dict[str, Any]], None]:
        return lambda stage: stage.update(threshold=value)

    def alone(part: str) -> Callable[[dict[str, Any]], None]:
        def edit(stage: dict[str, Any]) -> None:
            model = stage[part]
            stage.clear()
            stage.update(model="score", **{key: model[key] for key in ("name", "inputs", "outputs")})

        return edit

    return {
        "flights_cascade": at(threshold),
        "cascade_light": alone("light"),
        "cascade_heavy": alone("heavy"),
    }


def _document(name: str, edit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())
    document["pipeline"] = name
    for stage in document["stages"]:
        if "cascade" in stage:
            edit(stage)
    return document
