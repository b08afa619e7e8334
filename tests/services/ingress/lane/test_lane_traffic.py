"""lane.c under random and mutated traffic, with everything that a sanitizer finds a failure. A failure names the seed."""

import subprocess
from pathlib import Path

import pytest

from tests.services.ingress.lane.lane_builds import traffic

# Sanitizers: how many messages, how many threads of Envoy.
RUNS = {"address,undefined": (1_000_000, 1), "thread": (200_000, 2)}


@pytest.mark.parametrize("sanitizers", RUNS)
def test_every_message_gets_its_own_answer_and_nothing_is_left(sanitizers: str, tmp_path: Path) -> None:
    messages, threads = RUNS[sanitizers]
    command = [str(traffic(tmp_path, sanitizers)), "22", str(messages), str(threads)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"TSAN_OPTIONS": "halt_on_error=1"}
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert int(done.stdout.split()[0]) > messages / 10
