"""Fills a Redis with the prepared flights features by Feast, in a process of its own, as Feast takes seconds to import.

usage: python -m tests.faults.redis_repo FOLDER DATA HOST:PORT READ_AT      (READ_AT: what readers of FOLDER connect to)
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from deploy.pipelines.flights.feature_store import create
from headrace.featurestore.writer import materialize


def main() -> None:
    """Writes the feature repository FOLDER and loads its store."""
    folder, data, redis, read_at = sys.argv[1:]
    materialize(create(Path(folder), Path(data), redis), datetime.now(UTC))
    configuration = Path(folder) / "feature_store.yaml"
    configuration.write_text(configuration.read_text().replace(redis, read_at))


if __name__ == "__main__":
    main()
