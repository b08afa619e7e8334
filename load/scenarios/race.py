"""`race`: this build in both shapes beside other systems, on the same flights; all run at once and are asked in turns.

Same client in a closed loop, same requests, same model file, same Redis. The peers' features come in two reads of what
one process packed for them, ours in five views of Feast's: the work is theirs or more.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from load.generator.closed_loop import Target
from load.scenarios.closed import HEAD, Point, Result, in_turns, line, pipeline_target
from load.systems.headrace import Setup, Shape, configuration, headrace, prepare
from load.systems.peers import model_target, our_features, peer, shared_redis

# Shape, and processes of the ingress.
OURS: dict[str, tuple[Shape, int]] = {
    "headrace together, 2 workers": ("together", 2),
    "headrace together": ("together", 1),
    "headrace apart": ("apart", 1),
}
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
Results = dict[str, Result]


def run(options: argparse.Namespace) -> None:
    """`race`. Prints the figures of each system and how many times each of ours is each other one."""
    chosen = options.systems or [*OURS, *(PIPELINE if options.part == "pipeline" else MODEL)]
    prepare(options.home)
    with ExitStack() as stack:
        redis, store = stack.enter_context(shared_redis(options.peers, options.home))
        print(configuration(Setup(options.home, "together", feast=our_features(options.home, redis))))
        times = f"{options.runs} times {options.seconds:g} s"
        print(
            f"{options.part}; client on the same cores; all run at once, asked in turns {times}\n", flush=True
        )
        targets = {}
        for name in chosen:
            system = stack.enter_context(_system(options, name, redis))
            targets[name] = replace(system, helpers=frozenset({store}))
            print(f"up: {_NAMES.get(name, name)}", flush=True)
        results = in_turns(targets, options.conc, options.runs, options.seconds)
    _tables(options, results)


@contextmanager
def _system(options: argparse.Namespace, name: str, redis: str) -> Iterator[Target]:
    if name not in OURS:
        with peer(options.peers, options.part, name, options.home) as target:
            yield target
        return
    shape, workers = OURS[name]
    with _copied(options.home, name) as home:
        feast = our_features(home, redis)
        with headrace(Setup(home, shape, workers=workers, feast=feast)) as running:
            if options.part == "pipeline":
                yield pipeline_target(running)
            else:
                [key] = running.keys.values()
                yield model_target(home, running.target, key, running.pids)


@contextmanager
def _copied(home: Path, name: str) -> Iterator[Path]:
    """A home of its own for each of ours, beside the one that was prepared."""
    copy = home.with_name(f"{home.name}-{name.replace(' ', '-').replace(',', '')}")
    shutil.rmtree(copy, ignore_errors=True)
    # Without what a running system leaves there: sockets can't be copied.
    shutil.copytree(home, copy, symlinks=True, ignore=shutil.ignore_patterns("run", "peers-art"))
    try:
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _tables(options: argparse.Namespace, results: Results) -> None:
    """All figures, and how many times each of ours is each of the others."""
    first = next(iter(results))
    print("\n" + HEAD.format(f"of {first}"))
    for at_once in options.conc:
        for name, result in results.items():
            print(line(_NAMES.get(name, name), at_once, result, results[first]))
    print("\n~: others used more than 0.2 cores meanwhile\n")
    print("\n".join(_ratios(results)))
    for name, result in results.items():
        said = dict.fromkeys(f.verified for p in result.points.values() for f in p.runs)
        print(f"{_NAMES.get(name, name)}: {list(said)[-1]}")


def _ratios(results: Results) -> Iterator[str]:
    """How many times each of ours is each other one, and the best peer, by concurrency: `apart 64 × triton: 2.70`."""
    for name, result in results.items():
        for c, point in result.points.items() if name in OURS else ():
            ratios = {other: _times(point, r.points[c]) for other, r in results.items() if r.points[c].rate}
            ratios["best"] = min((r for other, r in ratios.items() if other not in OURS), default=math.nan)
            for other, ratio in ratios.items():
                yield f"{name.removeprefix('headrace ')} {c} × {other}: {ratio:.2f}"


def _times(ours: Point, theirs: Point) -> float:
    """How many times their answers: the median of the rounds' ratios."""
    pairs = zip(ours.runs, theirs.runs, strict=True)
    return statistics.median(a.rate / b.rate for a, b in pairs if b.rate)
