"""What a test starts ends with it, also where pytest itself is killed."""

import subprocess
import sys
from pathlib import Path

from tests.stopped import state
from tests.system import ROOT, poll

WAITS = """
import asyncio
from pathlib import Path
from tests.libs.hop.hop_callee import Callee
from tests.libs.state.valkey import Valkey

def test_waits():
    asyncio.run(waits(Path(__file__).parent))

async def waits(folder):
    async with Callee(folder / "callee") as callee:
        valkey = Valkey(folder)
        valkey.start()
        (folder / "part").write_text(f"{callee.pid} {valkey._process.pid}")
        (folder / "part").rename(folder / "pids")
        await asyncio.sleep(600)
"""
# Files whose processes end by themselves: at the end of their input, or within a moment.
SHORT = {
    "architecture/test_ledger.py",
    "architecture/test_children.py",
    "descendants.py",
    "lanes.py",
    "libs/cli/test_cli_supervisor.py",
    "libs/hop/test_hop_server_telemetry.py",
    "machines/containers.py",  # a container does not end with `podman run`
    "machines/traffic.py",
    "pipeline/test_other_peoples_clients.py",
    "services/ingress/test_ingress_security.py",
    "services/ingress/test_sharing_machine.py",
    "services/monitoring/console/test_console_browser.py",
    "services/monitoring/drift/test_drift_retrain.py",
    "skips.py",
}


def test_servers_end_with_a_killed_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_waits.py").write_text(WAITS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        poll("the servers run", (tmp_path / "pids").exists)
        running.kill()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    poll("both end", lambda: all(map(gone, pids)))


def gone(pid: int) -> bool:
    try:
        return state(pid) in "ZX"
    except OSError:
        return True


def test_each_starter_of_servers_binds_them_to_the_tests() -> None:
    calls = ("subprocess.Popen(", "create_subprocess_exec(")
    texts = {str(p.relative_to(ROOT / "tests")): p.read_text() for p in (ROOT / "tests").rglob("*.py")}
    starters = {name for name, text in texts.items() if any(call in text for call in calls)}
    assert sorted(n for n in starters - SHORT if "ends_with_tests(" not in texts[n]) == []
    assert sorted(SHORT - starters) == []
