"""What other people's checkers say of the overlays: the API's schemas, and checkov's rules but for those listed here."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.cli.installation import services
from tests.libs.cli.kubernetes_cluster import OVERLAYS, PLACEHOLDER, TREE, build
from tests.programs import needs_program
from tests.system import ROOT, client_environment

BIN = ROOT / ".venv" / "manifests" / "bin"
# The second is that of the cluster that manifests were run on.
VERSIONS = ("1.31", "1.34")
# Kinds of others, whose schemas are not the API's.
FOREIGN = {"Certificate", "Issuer", "ScaledObject", "PodMonitor"}
DIGEST = "sha256:" + "0" * 64
# Rule of checkov → the Deployments that do not follow it, why.
SKIPS: dict[str, tuple[set[str], str]] = {
    "CKV_K8S_11": (
        {*services.start_order(), PLACEHOLDER},
        "a CPU limit stops an event loop for the rest of each tenth of a second; requests are what divides a node",
    ),
    "CKV_K8S_8": ({PLACEHOLDER}, "it does nothing, so nothing tells that it is alive"),
    "CKV_K8S_9": ({PLACEHOLDER}, "nothing calls it"),
}
pytestmark = [
    pytest.mark.slow,
    needs_program("kustomize"),
    pytest.mark.skipif(not BIN.exists(), reason="needs .venv/manifests (make test-slow)"),
]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A release's overlays: with the digest of each image."""
    folder = tmp_path_factory.mktemp("tree")
    names = (*services.start_order(), "executor-gpu", "edge")
    images = [{"name": f"localhost/headrace-{name}", "digest": DIGEST} for name in names]
    built = folder / "built"
    built.mkdir()
    for overlay in OVERLAYS:
        # Kustomize takes no absolute paths.
        under = os.path.relpath(TREE / "overlays" / overlay, folder.resolve())
        (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [under], "images": images}))
        (built / f"{overlay}.yaml").write_text(build(folder))
    return {overlay: built / f"{overlay}.yaml" for overlay in OVERLAYS}


def said(*command: str | Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [BIN / program, *arguments], capture_output=True, text=True, check=False, env=client_environment()
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_schemas_of_the_api_take_each_object(
    overlay: str, version: str, applied: dict[str, Path], tmp_path: Path
) -> None:
    done = said("kubernetes-validate", "--kubernetes-version", version, "--strict", applied[overlay])
    assert done.returncode == 0, done.stdout + done.stderr
    unknown = [line for line in (done.stdout + done.stderr).splitlines() if "WARN" in line]
    assert {line.split("schema for kind ")[1].split()[0] for line in unknown} <= FOREIGN
    broken = applied[overlay].read_text().replace("maxSkew: 1", "maxSkew: one", 1)
    (tmp_path / "broken.yaml").write_text(broken)
    assert said("kubernetes-validate", "-k", version, tmp_path / "broken.yaml").returncode != 0


def test_checkov_finds_what_is_listed_and_nothing_else(applied: dict[str, Path]) -> None:
    folder = next(iter(applied.values())).parent
    done = said(
        "checkov", "--framework", "kubernetes", "--skip-download", "--quiet", "--compact", "-o", "json", "-d", folder
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["summary"]["parsing_errors"] == 0
    assert told["summary"]["passed"] > 500
    found: dict[str, set[str]] = {}
    for each in told["results"]["failed_checks"]:
        found.setdefault(each["check_id"], set()).add(each["resource"].removeprefix("Deployment.headrace."))
    assert found == {rule: where for rule, (where, _) in SKIPS.items()}
