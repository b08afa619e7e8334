"""Many commands change the tenants document at once: none may undo what another has done, nor leave it half written."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.cli.installation import layout, secrets
from headrace.hop.config import ConfigError
from headrace.state import tenants
from tests.disks import fill, tiny_disk

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
    secrets.ensure(place, datetime.now(UTC))
    half = PROCESSES // 2
    old = []
    file = tenants.load(place.tenants).with_tenant("acme", tenants.TenantSpec(pipelines=("flights",)))
    for _ in range(half):
        _, kept = tenants.new_key(created=datetime.now(UTC))
        old.append(kept.id)
        file = file.with_key("acme", kept)
    tenants.save(place.tenants, file)

    home = ["--home", str(place.home)]
    creating = [["keys", "create", "acme", "--yes", *home] for _ in range(half)]
    revoking = [["keys", "revoke", "acme", identity, "--yes", *home] for identity in old]
    mixed = [command for pair in zip(creating, revoking, strict=True) for command in pair]
    crowd(mixed, tmp_path / "outputs")

    printed = {
        tenants.hash_key((tmp_path / "outputs" / str(n)).read_text().strip())
        for n, command in enumerate(mixed)
        if command[1] == "create"
    }
    left = {key.hash for key in tenants.load(place.tenants).tenant("acme").keys}
    assert left == printed
    assert len(left) == half


def test_a_lock_that_is_never_given_back_ends_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    tenants.save(path, tenants.TenantsFile())
    with tenants.locked(path):
        child = (
            "import sys; from pathlib import Path; from headrace.state import tenants\n"
            "from headrace.hop.config import ConfigError\n"
            "try:\n    tenants.change(Path(sys.argv[1]), lambda file: file, wait_s=0.1)\n"
            "except ConfigError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", child, str(path)], capture_output=True, text=True, check=True
        )
    assert "another command is changing" in done.stdout
    assert tenants.change(path, lambda file: file) == tenants.TenantsFile()


def test_a_change_that_fails_leaves_the_file_and_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    tenants.save(path, tenants.TenantsFile().with_tenant("acme", tenants.TenantSpec()))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="no tenant 'nobody'"):
        tenants.change(path, lambda file: file.without_key("nobody", "1"))
    assert path.read_bytes() == before
    tenants.change(path, lambda file: file)


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    command = [str(Path(sys.executable).parent / "headrace"), "keys", "create", "demo", "--yes"]

    def create() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--home", str(home)], capture_output=True, text=True, timeout=120, check=False
        )

    with tiny_disk(home):
        place = layout.of(home)
        secrets.ensure(place, datetime.now(UTC))
        before = place.tenants.read_bytes()
        filler = fill(home, "filler")
        done = create()
        said = f"error: cannot write {place.tenants}: No space left on device; nothing is changed\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
        assert place.tenants.read_bytes() == before
        # Nothing half written beside it, only the file that is locked.
        assert [f.name for f in home.glob(".tenants*")] == [".tenants.yaml.lock"]
        filler.unlink()
        assert create().stdout.startswith("hr_")
        assert len(tenants.load(place.tenants).tenant("demo").keys) == 2
