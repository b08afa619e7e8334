"""The wheel has all that the services need: every file of their packages, and a door serves from it alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from headrace.hop import testing
from tests.services.ingress.ingress_calls import infer
from tests.services.ingress.ingress_door import (
    ROOT,
    DoorProcess,
    FakeRouter,
    definition,
    infer_request,
    prepare,
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "libs/headrace", "services"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    kept = {name.removeprefix("libs/") for name in listed.stdout.split() if (ROOT / name).exists()}
    assert kept
    assert not kept - set(zipfile.ZipFile(wheel).namelist())


async def test_a_door_serves_from_the_wheel_and_variables_alone(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    await asyncio.to_thread(zipfile.ZipFile(wheel).extractall, installed)
    async with testing.served(definition(FakeRouter())) as harness:
        folder = prepare(tmp_path / "door", harness.target)
        (folder.path / "ingress.yaml").unlink()
        variables = {
            f"HEADRACE__{key.upper()}": yaml.safe_dump(value) for key, value in folder.settings.items()
        }
        door = DoorProcess(folder, path=str(installed), variables=variables)
        try:
            await door.ready(folder.grpc)
            await infer(folder, infer_request([[1, 2]], [1]))
        finally:
            door.kill()
