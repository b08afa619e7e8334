"""The older generation of the services: a commit of this repository, which `OLD` names."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.system import ROOT

OLD = Path(__file__).with_name("OLD").read_text().split()[0]
_PARTS = ("libs", "services", "deploy")


def unpacked(folder: Path, commit: str = OLD) -> Path:
    """The code of a commit in `folder`; skips the test in a clone without history, or without git."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        # In a whole clone the commit must be there: else these tests would be skipped everywhere, and nobody would see it.
        assert _git("rev-parse", "--is-shallow-repository").stdout.strip() != b"false", f"no commit {commit}"
        pytest.skip(f"the older generation {commit} is not in this clone (a shallow one)")
    archive = _git("archive", "--format=tar", commit, *_PARTS)
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
