"""One open-loop run: streams of requests at given rates, and their results."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from load.generator.arrivals import arrivals
from load.generator.flight_requests import rows, rows_message
from load.generator.http2 import DEADLINE_EXCEEDED, UNAVAILABLE
from load.generator.load_generator import Caller, Plan, Samples
from load.generator.verification import verify
from load.systems.headrace import Running
from load.systems.processes import ROOT, pss_mib, turn

PATH = "/inference.GRPCInferenceService/ModelInfer"
_OK, _RESOURCE_EXHAUSTED = 0, 8
_VERIFIED = 0.01
# Memory for the plan is made before the first request, and virtual machines are paused for minutes.
_EXTRA_S = 300


@dataclass(frozen=True, slots=True)
class RequestStream:
    """One stream of requests: from `caller`, so many per second for `seconds`."""

    caller: Caller
    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of some requests; latencies in seconds from when each was meant to leave."""

    offered: int
    seconds: float
    # Latencies of the answered; of those refused (RESOURCE_EXHAUSTED, UNAVAILABLE).
    answered: NDArray[np.float64]
    refused: NDArray[np.float64]
    # Answered within their deadline; out of time; failed in any other way.
    good: int
    late: int
    failed: int

    @property
    def goodput(self) -> float:
        """Answers within their deadline, per second."""
        return self.good / self.seconds

    def latency_ms(self, percentile: float) -> float:
        """Of the answered; NaN if there are none."""
        return _percentile(self.answered, percentile)

    def refusal_ms(self, percentile: float) -> float:
        """How long refusals took; NaN if there are none."""
        return _percentile(self.refused, percentile)


@dataclass(frozen=True, slots=True)
class OpenLoopRun:
    """A run as a whole. `server_us`, `client_us`: CPU per request offered; `lag_ms`: how late requests left (p99)."""

    streams: Sequence[RequestStream]
    plan: Plan
    samples: Samples
    seconds: float
    server_us: float
    client_us: float
    lag_ms: float
    memory_mib: float
    other_cores: float
    verified: str

    def outcome(self, *names: str) -> Outcome:
        """Of the callers of these names (all, if none is given)."""
        wanted = [i for i, stream in enumerate(self.streams) if not names or stream.caller.name in names]
        times = self.plan.times
        chosen = np.isin(self.plan.who, wanted)
        status, took = self.samples.status[chosen], (self.samples.ended - times)[chosen]
        deadlines = np.array([stream.caller.deadline_s for stream in self.streams])[self.plan.who[chosen]]
        ok = status == _OK
        good = ok & (took <= deadlines)
        refused = (status == _RESOURCE_EXHAUSTED) | (status == UNAVAILABLE)
        late = (status == DEADLINE_EXCEEDED) | (ok & ~good)
        failed = ~(good | refused | late)
        return Outcome(
            int(chosen.sum()),
            self.seconds,
            took[ok],
            took[refused],
            int(good.sum()),
            int(late.sum()),
            int(failed.sum()),
        )


def run_open_loop(
    running: Running,
    model: str,
    streams: Sequence[RequestStream],
    *,
    cpus: frozenset[int] | None = None,
    seed: int = 1,
    check: bool = True,
) -> OpenLoopRun:
    """Sends the streams at once, each by its own Poisson process; verifies 1 % of the answers. Raises SystemExit."""
    home = running.setup.home
    asked = rows(home)
    plan = _plan(running, model, streams, cpus, seed, len(asked))
    with turn():
        samples = run_plan(plan)
    seconds = max(stream.seconds for stream in streams)
    replies = {int(plan.what[i]): reply for i, reply in samples.replies.items() if reply}
    feast = running.setup.feast
    verified = verify(home, feast, model, asked, replies) if check else "not verified"
    lag = np.nan_to_num(samples.sent - plan.times)
    return OpenLoopRun(
        streams,
        plan,
        samples,
        seconds,
        samples.servers_cpu_s / len(plan.times) * 1e6,
        samples.cpu_s / len(plan.times) * 1e6,
        float(np.percentile(lag, 99)) * 1000,
        pss_mib(running.pids),
        samples.other_cores,
        verified,
    )


def _plan(
    running: Running,
    model: str,
    streams: Sequence[RequestStream],
    cpus: frozenset[int] | None,
    seed: int,
    distinct: int,
) -> Plan:
    random = np.random.default_rng(seed)
    parts = [arrivals(stream.rate, stream.seconds, random) for stream in streams]
    times = np.concatenate(parts)
    who = np.concatenate([np.full(len(p), i, np.uint16) for i, p in enumerate(parts)])
    order = np.argsort(times, kind="stable")
    # Each row once before any is repeated, in another order each time.
    rounds = -(-len(times) // distinct)
    what = np.concatenate([random.permutation(distinct) for _ in range(rounds)])[: len(times)].astype(
        np.uint32
    )
    kept = random.random(len(times)) < _VERIFIED
    messages = _messages(running.setup.home, model)
    return Plan(
        running.target,
        PATH,
        [stream.caller for stream in streams],
        messages,
        times[order],
        who[order],
        what,
        frozenset(np.flatnonzero(kept).tolist()),
        servers=running.pids,
        cpus=cpus,
    )


@cache
def _messages(home: Path, model: str) -> list[bytes]:
    return [rows_message(model, [row]) for row in rows(home)]


def run_plan(plan: Plan) -> Samples:
    """Runs the plan in a process of its own, so that nothing else in this one (the GIL, the collector) delays it."""
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "plan", Path(folder) / "samples"
        asked.write_bytes(pickle.dumps(plan))
        command = [sys.executable, "-m", "load.generator.load_generator", str(asked), str(told)]
        limit = float(plan.times[-1]) + _EXTRA_S
        done = subprocess.run(command, cwd=ROOT, timeout=limit, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"the load generator failed:\n{done.stderr[-2000:]}")
        samples: Samples = pickle.loads(told.read_bytes())
        return samples


def _percentile(values: NDArray[np.float64], percentile: float) -> float:
    return float(np.percentile(values, percentile)) * 1000 if len(values) else float("nan")
