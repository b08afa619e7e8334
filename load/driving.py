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
    """A run gave no figures. `reason`: why, in a line; the text is all that perf_analyzer printed at its end."""

    def __init__(self, printed: str) -> None:
        super().__init__(printed[-2000:])
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        telling = [line for line in lines if "rror" in line or "ailed" in line or "xceeded" in line]
        self.reason = " ".join((telling or lines or ["it printed nothing"])[-1].replace("|", "/").split())[
            :160
        ]


def drive(what: Drive, concurrency: int, window_ms: int = 1000, trials: int = 3) -> Figures:
    """Median-like figures of a stable run: perf_analyzer averages its last three windows of `window_ms`.

    Raises DriveError if it ends without figures.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [
            str(PERF_ANALYZER), "-m", what.model, "-i", "grpc", "-u", what.target, "--input-data", str(what.inputs),
            "--concurrency-range", str(concurrency), "-H", f"authorization:Bearer {what.key}", "-p", str(window_ms),
            "--stability-percentage", "999", "--max-trials", str(trials), "--percentile", "99", "-f", str(report),
        ]  # fmt: skip
        timeout_s = 30 + 3 * trials * window_ms / 1000
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise DriveError(f"error: perf_analyzer did not end within {timeout_s:.0f} s") from None
        rows = list(csv.DictReader(report.open())) if report.exists() else []
        if done.returncode != 0 or not rows:
            raise DriveError(done.stdout + done.stderr)
    row = rows[0]
    return Figures(float(row["Inferences/Second"]), float(row["p50 latency"]), float(row["p99 latency"]))
