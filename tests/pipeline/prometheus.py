"""A real Prometheus that scrapes what it is told."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.children import ends_with_tests


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where it answers."""

    address: str

    @classmethod
    @contextmanager
    def running(cls, folder: Path, targets: Sequence[str] | Path) -> Iterator[Self]:
        """`targets`: host:port of each, or the file that says them."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        job: dict[str, Any] = {"job_name": "headrace"}
        if isinstance(targets, Path):
            job["file_sd_configs"] = [{"files": [str(targets)]}]
        else:
            job["static_configs"] = [{"targets": list(targets)}]
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        process = subprocess.Popen(
            ends_with_tests(
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={address}",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield cls(address)
        finally:
            process.terminate()
            process.wait()

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    def up(self) -> int:
        """Targets whose last scrape succeeded; 0 while Prometheus itself is starting."""
        try:
            return sum(t["health"] == "up" for t in self._get("/api/v1/targets")["activeTargets"])
        except OSError:
            return 0

    def addresses(self) -> dict[str, str]:
        """host:port by `instance`, of the targets whose last scrape succeeded."""
        try:
            active = self._get("/api/v1/targets")["activeTargets"]
        except OSError:
            return {}
        return {
            t["labels"]["instance"]: t["discoveredLabels"]["__address__"]
            for t in active
            if t["health"] == "up"
        }

    def dropped(self) -> list[str]:
        """Errors of the last scrapes."""
        return [t["lastError"] for t in self._get("/api/v1/targets")["activeTargets"] if t["lastError"]]
