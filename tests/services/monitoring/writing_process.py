"""A process that records outcomes until it is killed; it prints each number after it was stored."""

import sys
from pathlib import Path

from services.monitoring.outcomes.store import OutcomeStore
from tests.services.monitoring.monitoring_outcomes import NOW, facts_at, outcome


def main(path: Path) -> None:
    store, number = OutcomeStore(facts_at(path)), 0
    while True:
        store.record("acme", [outcome(f"{number}-{i}") for i in range(50)], NOW)
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
