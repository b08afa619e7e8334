"""Real flights as `perf_analyzer --input-data` takes them, one set of tensors a flight.

    .venv/bin/python load/flights_inputs.py [--requests .headrace/data/requests.jsonl] [--rows 500] > load/flights_inputs.json

Tensors have shape [1]: the row, without the batch dimension that perf_analyzer adds by `-b`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """Writes the JSON to stdout."""
    parser = argparse.ArgumentParser(description="Flights for perf_analyzer.")
    parser.add_argument("--requests", type=Path, default=Path(".headrace/data/requests.jsonl"))
    parser.add_argument("--rows", type=int, default=500)
    arguments = parser.parse_args()
    with arguments.requests.open() as lines:
        rows = [json.loads(line) for line in lines][: arguments.rows]
    data = [{name: {"content": [value], "shape": [1]} for name, value in row.items()} for row in rows]
    # A flight a line, so that a diff can be read.
    sys.stdout.write(
        '{"data": [\n' + ",\n".join(json.dumps(d, separators=(",", ":")) for d in data) + "\n]}\n"
    )


if __name__ == "__main__":
    main()
