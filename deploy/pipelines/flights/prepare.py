"""Prepares the flights pipeline: features in Feast, models in the repository, requests to try. See README.md.

    .venv/bin/python deploy/pipelines/flights/prepare.py --home .headrace [--redis HOST:PORT]

Progress goes to stdout, one JSON object per line: {"step": TEXT, "done": N, "total": M}. Running it again does only what is
due: the features after half a day, the models when their training data or code has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

# The packages for the work take seconds to import, so they are imported only if there is work.
from deploy.pipelines.flights import sources
from deploy.pipelines.preparation import Report, alone, code_sha256, input_stages, tell
from headrace.state import atomic

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
# Observations may be two days old (feature_repo.py): with new event times every half day they are never too old.
REFRESH = timedelta(hours=12)
# The modules that the features depend on, and those that the models depend on as well.
_FEATURES = ("sources", "history", "feature_repo", "feature_store", "sampling")
_MODELS = ("joining", "transforming", "training", "exporting", "baselines", "preparing")


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the flights pipeline.")
    parser.add_argument("--home", type=Path, default=Path(".headrace"), help="where everything is written")
    parser.add_argument(
        "--redis", default="", help="HOST:PORT[,option=value…] of an online store; default SQLite"
    )
    arguments = parser.parse_args()
    prepare(arguments.home.resolve(), arguments.redis, datetime.now(UTC).replace(microsecond=0), tell)


def prepare(home: Path, redis: str, now: datetime, report: Report) -> None:
    """Brings `home` up to date as of `now` (UTC); waits until any other preparation of it has ended."""
    with alone(home, report):
        _prepare(home, redis, now, report)


def _prepare(home: Path, redis: str, now: datetime, report: Report) -> None:
    stamp_file = home / "flights.json"
    due = {"models": _models_hash(), "features": _hash(_modules(*_FEATURES)), "redis": redis}
    stamp = _read(stamp_file)
    trained = stamp.get("models") == due["models"] and (home / "models").is_dir()
    fresh = {k: stamp.get(k) for k in due} == due and now - _time(stamp) < REFRESH
    if trained and fresh and (home / "feast" / "registry.db").exists():
        report("flights is prepared", 1, 1)
        return
    from deploy.pipelines.flights.preparing import prepare_features, prepare_models

    began = time.monotonic()
    report("reading a year of flights", 0, 1)
    loaded = sources.load()
    report("reading a year of flights", 1, 1)
    frames = prepare_features(home, loaded, redis, now, report)
    if not trained:
        prepare_models(home, loaded, frames, now, report)
    atomic.write(stamp_file, json.dumps(due | {"prepared_at": now.isoformat()}, indent=2).encode() + b"\n")
    report(f"flights is prepared (in {time.monotonic() - began:.0f} s)", 1, 1)


def _models_hash() -> str:
    """A digest of what the models depend on; of the document, only the stages that make their inputs."""
    steps = ROOT / "libs" / "headrace" / "steps"
    files = [p for p in sorted(steps.rglob("*.py")) if p.name != "service.py"]
    return _hash([*_modules(*_FEATURES, *_MODELS), *files], input_stages(HERE / "pipeline.yaml"))


def _modules(*names: str) -> list[Path]:
    return [HERE / f"{name}.py" for name in names]


def _hash(files: list[Path], text: str = "") -> str:
    return hashlib.sha256((sources.fingerprint() + text + code_sha256(files)).encode()).hexdigest()


def _read(stamp: Path) -> dict[str, Any]:
    try:
        found = json.loads(stamp.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(stamp: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(stamp.get("prepared_at", "1970-01-01T00:00:00+00:00"))


if __name__ == "__main__":
    main()
