"""Traffic from outside the machines, and what became of each call."""

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.cli.installation import layout, services
from tests.machines import manifests
from tests.machines.authority import Authority
from tests.machines.cluster import Cluster
from tests.machines.network import entering
from tests.system import HOME, ROOT, poll, requests

# What a caller waits for an answer.
TIMEOUT_S = 10.0
CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the traffic. `lost`: calls without a prediction, also those refused as overload. `rate`: calls per second."""

    name: str
    calls: int
    lost: list[dict[str, Any]]
    rate: float
    p99_ms: float

    @property
    def reasons(self) -> dict[str, int]:
        """How many were lost for what."""
        return reasons(self.lost)

    @property
    def row(self) -> str:
        """As a row of a table."""
        refused = sum(call["status"] == "RESOURCE_EXHAUSTED" for call in self.lost)
        numbers = f"{self.calls:,} | {self.rate:.0f} | {len(self.lost)} | {refused} | {self.p99_ms:.0f}"
        return f"| {self.name} | {numbers} |"


@dataclass
class Traffic:
    """Calls at a fixed rate while the context lasts."""

    cluster: Cluster
    rate: float
    believed: tuple[Authority, ...]
    marks: list[tuple[str, float]] = field(default_factory=list)
    _lines: Path = Path()

    def __enter__(self) -> Self:
        self._lines = self.cluster.folder / "calls.jsonl"
        dns = manifests.name_of(services.INGRESS)
        bind = f'mount --bind {self.cluster.names.resolv} /etc/resolv.conf && exec "$@"'
        before = [*entering(self.cluster.outside), "unshare", "--mount", "sh", "-c", bind, "sh"]
        with self._lines.open("w") as output, (self.cluster.folder / "caller.log").open("w") as log:
            self._process = subprocess.Popen(
                [*before, sys.executable, "-m", "tests.machines.caller"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=log,
                text=True,
                cwd=ROOT,
            )
        told = {
            "target": f"{dns}:{manifests.DOOR_PORT}",
            "ca": b"".join(authority.pem for authority in self.believed).decode(),
            "key": layout.of(HOME).demo_key.read_text().strip(),
            "rows": requests()[:200],
            "channels": CHANNELS,
            "rate": self.rate,
            "timeout_s": TIMEOUT_S,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        poll("the first answer", lambda: self._lines.stat().st_size, 120)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.mark("end")
        self._process.communicate("\n", timeout=60)

    def mark(self, name: str) -> None:
        """What happens from now on is counted under this name."""
        self.marks.append((name, time.monotonic()))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """All that have ended so far, in the order in which they began."""
        lines = self._lines.read_text().splitlines()
        return sorted((json.loads(line) for line in lines if line.endswith("}")), key=lambda call: call["at"])

    def spans(self) -> list[Span]:
        """One for each mark, of the calls that began from it to the next."""
        calls = self.calls
        return [
            _span(name, end - begin, [call for call in calls if begin <= call["at"] < end])
            for (name, begin), (_, end) in zip(self.marks, self.marks[1:], strict=False)
        ]


def reasons(lost: list[dict[str, Any]]) -> dict[str, int]:
    """How many calls were lost for what."""
    return dict(Counter(f"{call['status']}: {call['why']}" for call in lost).most_common(10))


def _span(name: str, seconds: float, calls: list[dict[str, Any]]) -> Span:
    took = sorted(call["took"] for call in calls)
    p99 = took[int(len(took) * 0.99)] if took else 0.0
    lost = [call for call in calls if call["status"] != "OK"]
    return Span(name, len(calls), lost, len(calls) / seconds, p99 * 1e3)
