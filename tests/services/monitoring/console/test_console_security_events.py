"""The console's security events: a flood of failed sign-ins is in the file with every address."""

import json
from collections import Counter
from pathlib import Path

from services.monitoring.console.access.security_events import SecurityEvents
from tests.services.monitoring.monitoring_outcomes import Log


def test_every_address_of_a_flood_is_in_the_file(tmp_path: Path) -> None:
    events = SecurityEvents(tmp_path / "security.jsonl", lambda: 1_800_000_000.0, Log())
    for i in range(3_000):
        events.add("unknown_key", f"10.0.{i % 500 >> 8}.{i % 500 & 255}", {"path": "/sign-in"})
    events.flush(closing=True)
    counted = Counter[str]()
    for line in map(json.loads, (tmp_path / "security.jsonl").read_text().splitlines()):
        assert line["method"] == "console"
        if line["kind"] == "summary":
            counted.update({client: kinds["unknown_key"] for client, kinds in line["clients"].items()})
        else:
            counted[line["client"]] += 1
    assert len(counted) == 500
    assert set(counted.values()) == {6}
