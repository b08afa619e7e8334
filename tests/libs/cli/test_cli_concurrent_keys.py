"""Many commands change tenants and keys at once: none may undo what another has done."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from headrace.access import changes
from headrace.access.specs import TenantSpec, hash_key, new_key
from headrace.cli.installation import layout
from tests.live_access import BY, home_control

PROCESSES = 50
# Forks a process for each command, once everything is imported, and lets them all go at the same moment.
CROWD = """
import json, os, sys
from headrace.cli.main import app
commands, outputs = json.loads(sys.argv[1]), sys.argv[2]
wait, go = os.pipe()
pids = []
for number, command in enumerate(commands):
    if not (pid := os.fork()):
        os.close(go)
        with open(f"{outputs}/{number}", "w") as file:
            os.dup2(file.fileno(), 1)
            os.read(wait, 1)
            try:
                app(command)
            finally:
                sys.stdout.flush()
        os._exit(0)
    pids.append(pid)
os.close(go)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]))
"""


def crowd(commands: list[list[str]], outputs: Path) -> list[int]:
    """The exit codes of these commands, run at once by a process each."""
    outputs.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", CROWD, json.dumps(commands), str(outputs)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    codes: list[int] = json.loads(done.stdout)
    assert set(codes) == {0}, done.stderr
    return codes


def test_fifty_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    place = layout.of(tmp_path / "home")
    half = PROCESSES // 2
    with home_control(place) as control:
        acme = TenantSpec(pipelines=("flights",))
        old = [new_key(created=datetime.now(UTC))[1] for _ in range(half)]
        for key in old:
            changes.add_key(control.records, "acme", key, lambda _: acme, BY)

        home = ["--home", str(place.home)]
        creating = [["keys", "create", "acme", "--yes", *home] for _ in range(half)]
        revoking = [["keys", "revoke", "acme", key.id, "--yes", *home] for key in old]
        mixed = [command for pair in zip(creating, revoking, strict=True) for command in pair]
        crowd(mixed, tmp_path / "outputs")

        printed = {
            hash_key((tmp_path / "outputs" / str(n)).read_text().strip())
            for n, command in enumerate(mixed)
            if command[1] == "create"
        }
        left = {key.hash for key in changes.keys_of(control.records, "acme")}
    assert left == printed
    assert len(left) == half
