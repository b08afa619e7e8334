"""A backup of a running system has all of its home, and serves the same elsewhere."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.client import Headrace
from tests.agreed import with_yes
from tests.system import COMMAND_S, HEADRACE, ROOT, System, headrace


@dataclass
class Elsewhere:
    """Commands about another home."""

    home: Path

    def headrace(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(HEADRACE), *with_yes(*arguments), "--home", str(self.home)],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.headrace(*arguments, "--json"))
        return found


@pytest.mark.slow
def test_a_backup_of_a_running_system_serves_the_same_elsewhere(system: System, tmp_path: Path) -> None:
    rows = system.rows[:64]
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        before = [p.outputs for p in client.predict("flights", rows).predictions]
    file, other = tmp_path / "headrace.tar", Elsewhere(tmp_path / "home")
    audited = json.loads(headrace("audit", "verify", "--json"))
    headrace("backup", str(file))
    other.headrace("restore", str(file))
    try:
        other.headrace("up", *(["--together"] if system.shape == "together" else []))
        status = other.json("status")
        with Headrace(status["endpoints"]["grpc"], key=status["demo_key"]) as client:
            assert [p.outputs for p in client.predict("flights", rows).predictions] == before
        restored = other.json("audit", "verify")
        assert restored["holds"]
        # The audit goes on from the one that was backed up.
        lines = map(json.loads, other.headrace("audit", "export").splitlines())
        assert audited["head"] in [line.get("previous") for line in lines]
    finally:
        other.headrace("down")
