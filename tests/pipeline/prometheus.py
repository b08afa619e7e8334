"""A real Prometheus that scrapes what it is told."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.children import ends_with_tests
from tests.ports import free_port


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where it answers."""

    address: str

    @classmethod
    @contextmanager
    def running(cls, folder: Path, targets: Sequence[str] | Path) -> Iterator[Self]:
        """`targets`: host:port of each, or the file that says them."""
        address = f"127.0.0.1:{free_port()}"
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

    def addresses(self) -> dict[str, str]:
        """host:port by `instance`, of the targets whose last scrape succeeded; none while Prometheus itself is starting."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/targets", timeout=30) as answer:
                active = json.load(answer)["data"]["activeTargets"]
        except OSError:
            return {}
        return {
            t["labels"]["instance"]: t["discoveredLabels"]["__address__"]
            for t in active
            if t["health"] == "up"
        }
