"""Versions deployed onto a running home, good ones and bad ones, under requests."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.cli.installation import layout, services
from headrace.delivery import manifest, packages
from headrace.delivery.manifest import Manifest
from headrace.delivery.oci import Registry
from tests.gauges import samples
from tests.repeated import repeated
from tests.system import HOME, ROOT, System, headrace, poll, refused, row_request

# A system of its own, and twenty restarts.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
UNSTARTABLE = ("SERVICE = ", "raise SystemExit('broken')\nSERVICE = ")
# Healthy all the same.
ANSWERS_NOTHING = (
    "def run_batch(",
    "def run_batch(*_: object, **__: object) -> None: raise RuntimeError('broken')\n\n\ndef unused(",
)
ROLLED_S = 900  # seven restarts on a loaded machine
QUICK = ("--looks", "1", "--every", "0.1")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    place = layout.of(HOME)
    shutil.rmtree(place.deployed, ignore_errors=True)
    running = System.up("apart")
    try:
        yield running
    finally:
        running.down()
        shutil.rmtree(place.deployed, ignore_errors=True)


def publish(registry: Path, version: str, folder: Path, edits: dict[str, tuple[str, str]]) -> None:
    """A version of this checkout with some files changed."""
    root = folder / version
    for part in packages.PARTS:
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in edits.items():
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new))
    target = Registry(registry)
    images = packages.build(target, root, services.start_order())
    manifest.publish(target, Manifest(version, images), layout.of(HOME).model_key)


def versions(system: System) -> set[str | None]:
    return {found["version"] for found in system.services().values()}


def test_versions_are_deployed_rolled_back_and_recorded(system: System, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    options, before = ("--registry", str(registry)), _counted(system)
    headrace("deliver", "publish", "1.0", *options)
    assert "1.0 is deployed to home" in headrace(
        "deliver", "deploy", "1.0", *options, *QUICK, timeout=ROLLED_S
    )
    assert versions(system) == {"1.0"}

    publish(registry, "2.0", tmp_path, {"services/router/wiring.py": UNSTARTABLE})
    two = ("--service", "preprocessing", "--service", "router")
    told = refused("deliver", "deploy", "2.0", *options, *QUICK, *two, timeout=ROLLED_S)
    assert "router was bad, all was rolled back" in told
    assert versions(system) == {"1.0"}

    publish(registry, "3.0", tmp_path, {"libs/headrace/steps/program/program.py": ANSWERS_NOTHING})

    def ask() -> None:
        with suppress(grpc.RpcError):
            system.predict(row_request(system.rows[0]), timeout=10)

    with repeated(ask, 0):
        only = ("--service", "postprocessing", "--looks", "100", "--every", "0.5")
        told = refused("deliver", "deploy", "3.0", *options, *only, timeout=ROLLED_S)
    assert "postprocessing was bad, all was rolled back" in told
    assert "requests failed since it was deployed" in told
    assert versions(system) == {"1.0"}
    answer = system.predict(row_request(system.rows[0]), timeout=20)
    assert answer.predictions[0].outputs["probability"]

    _recorded(system, before)


def _recorded(system: System, before: dict[str, float]) -> None:
    told = json.loads(headrace("deliver", "history", "--json"))
    results = [" ".join((d["version"], d["result"], d["failed_service"])) for d in told["deployments"][-3:]]
    assert results == ["1.0 succeeded ", "2.0 rolled_back router", "3.0 rolled_back postprocessing"]
    new = {result: value - before[result] for result, value in _counted(system).items()}
    assert new == {"succeeded": 1.0, "rolled_back": 2.0, "failed": 0.0}
    poll("the journal has all", lambda: _logged()[-6:] == ["deployment_began", "deployment_ended"] * 3, 120)
    headrace("audit", "verify")


def _counted(system: System) -> dict[str, float]:
    found = samples(system, "headrace_deployments_total", ["monitoring"])
    return {labels["result"]: value for labels, value in found}


def _logged() -> list[Any]:
    exported = headrace("audit", "export", "--source", "deployments").splitlines()
    return [json.loads(json.loads(line)["text"])["event"] for line in exported if line.startswith("{")]
