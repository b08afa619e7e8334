"""A log line that finds no room on the disk fails nothing, and its loss is told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.disks import fill, tiny_disk

SCRIPT = """
import logging, sys
from pathlib import Path
from headrace.hop import config
from headrace.hop.process import logs
settings = config.Telemetry()
log = logs.logger("router", settings)
logs.take_over("router", settings)
filler = Path(sys.argv[1])
log.info("before")
print("full?", flush=True)
sys.stdin.readline()
for number in range(100):
    log.info("meanwhile", number=number, text="x" * 500)
    logging.getLogger("library").warning("meanwhile %s", "y" * 500)
filler.unlink()
log.info("after")
logging.getLogger("library").warning("after, too")
print("well", flush=True)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_lines_are_lost_and_counted_and_the_process_goes_on(tmp_path: Path, unbuffered: str) -> None:
    with tiny_disk(tmp_path):
        log, filler = tmp_path / "router.log", tmp_path / "filler"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(filler)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"full?\n"
        fill(tmp_path, "filler")
        said, _ = process.communicate(b"\n", timeout=60)
        assert (process.returncode, said) == (0, b"well\n")
        # The line that was torn when the room ended has a line of its own.
        lines = [_read(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines if line]
    assert events[0] == "before"
    assert sum(line is None for line in lines) <= 1
    [told] = [line for line in lines if line and line["event"] == "log lines lost"]
    written = sum(event.startswith("meanwhile") for event in events)
    assert told["count"] + written == 200
    assert events[-2:] == ["after", "after, too"]


def _read(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:
        return None
