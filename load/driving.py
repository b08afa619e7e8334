"""One closed-loop run of perf_analyzer against an Open Inference Protocol door."""

from __future__ import annotations

import csv
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PERF_ANALYZER = ROOT / ".venv" / "clients" / "bin" / "perf_analyzer"


@dataclass(frozen=True, slots=True)
class Drive:
    """What to send where. `inputs`: a perf_analyzer --input-data file; `key`: bearer credential."""

    target: str
    model: str
    inputs: Path
    key: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests per second, and client-seen latencies in microseconds."""

    rate: float
    p50_us: float
    p99_us: float


class DriveError(Exception):
    """perf_analyzer saw an error; the text ends with what it printed."""


def drive(what: Drive, concurrency: int, window_ms: int = 1000, trials: int = 3) -> Figures:
    """Median-like figures of a stable run: perf_analyzer averages its last three windows of `window_ms`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [
            str(PERF_ANALYZER), "-m", what.model, "-i", "grpc", "-u", what.target, "--input-data", str(what.inputs),
            "--concurrency-range", str(concurrency), "-H", f"authorization:Bearer {what.key}", "-p", str(window_ms),
            "--stability-percentage", "999", "--max-trials", str(trials), "--percentile", "99", "-f", str(report),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120 + trials * window_ms, check=False
        )
        if done.returncode != 0 or not report.exists():
            raise DriveError((done.stdout + done.stderr)[-2000:])
        with report.open() as lines:
            row = next(csv.DictReader(lines))
    return Figures(float(row["Inferences/Second"]), float(row["p50 latency"]), float(row["p99 latency"]))
