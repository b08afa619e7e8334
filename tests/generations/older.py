"""The older generation of the services: the last commit that landed. `LANDED` has tag and commit of each, the newest last."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.system import ROOT

OLD = Path(__file__).with_name("LANDED").read_text().split()[-1]
_PARTS = ("libs", "services", "deploy")


def unpacked(folder: Path) -> Path:
    """Its code in `folder`; skips the test in a clone without history, or without git."""
    if _git("cat-file", "-e", f"{OLD}^{{commit}}").returncode:
        # In a whole clone the commit must be there: else these tests would be skipped everywhere, and nobody would see it.
        assert _git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false", f"no commit {OLD}"
        pytest.skip(f"the older generation {OLD} is not in this clone (a shallow one)")
    archive = _git("archive", "--format=tar", OLD, *_PARTS)
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
