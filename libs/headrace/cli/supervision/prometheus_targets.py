"""Where the metrics are, for Prometheus: a file of targets, which it reads again by itself (`file_sd_configs`).

The metrics of a service move to another port at each restart. `instance` is the service's name, so that its series go on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from headrace.state import atomic


def write(path: Path, metrics: Mapping[str, str]) -> None:
    """Replaces the file in one step. `metrics`: service → host:port. Raises OSError.

    A service that has crashed stays in the file: alerts tell that it does not answer.
    """
    groups = [{"targets": [address], "labels": {"instance": service}} for service, address in metrics.items()]
    atomic.write(path, json.dumps(groups, indent=1).encode())


def read(path: Path) -> dict[str, str]:
    """Service → host:port. Raises OSError: nothing runs, or nothing ever did."""
    return {group["labels"]["instance"]: group["targets"][0] for group in json.loads(path.read_text())}
