"""The target in Kubernetes: the overlay is what kustomize builds; what kubectl is asked. No control plane is to be had here."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from headrace.delivery.deployer import Image, Look
from headrace.delivery.errors import DeliveryError
from headrace.delivery.kubernetes import Cluster, run

BASE = Path(__file__).parents[3] / "deploy" / "kubernetes" / "base"
ONE, TWO = (f"sha256:{letter * 64}" for letter in "ab")


class Kubectl:
    """Stands for kubectl: notes what it is asked."""

    def __init__(self, ready: int = 2) -> None:
        self.asked: list[str] = []
        self.ready = ready

    def __call__(self, command: Sequence[str]) -> str:
        self.asked.append(" ".join(command))
        return json.dumps({"spec": {"replicas": 2}, "status": {"readyReplicas": self.ready}})


def cluster(folder: Path, kubectl: Kubectl | None = None, base: Path = BASE) -> Cluster:
    command = ("kubectl", "--context", "c") if kubectl else ()
    return Cluster(
        folder / "overlay",
        base,
        "registry.internal/x/",
        ("features", "router"),
        kubectl=command,
        run=kubectl or run,
    )


def test_a_service_is_deployed_by_digest_and_awaited(tmp_path: Path) -> None:
    kubectl = Kubectl()
    target = cluster(tmp_path, kubectl)
    assert target.running("router") is None
    target.deploy("router", Image(ONE, "1.0"))
    assert kubectl.asked == [
        f"kubectl --context c apply -k {tmp_path}/overlay",
        "kubectl --context c --namespace headrace rollout status deployment/router --timeout=300s",
    ]
    assert target.running("router") == Image(ONE, "1.0")
    assert target.look("router") == Look()
    kubectl.ready = 1
    assert target.look("router") == Look("1 of 2 replicas of router are ready")


def test_another_service_keeps_its_image_and_a_rollback_takes_the_entry_away(tmp_path: Path) -> None:
    target = cluster(tmp_path)
    target.deploy("router", Image(ONE, "1.0"))
    target.deploy("features", Image(TWO, "2.0"))
    assert target.running("router") == Image(ONE, "1.0")
    target.deploy("features", None)
    assert target.running("features") is None
    assert target.running("router") == Image(ONE, "1.0")


def test_an_image_without_digest_and_a_broken_overlay_are_refused(tmp_path: Path) -> None:
    target = cluster(tmp_path)
    with pytest.raises(DeliveryError, match="is no digest"):
        target.deploy("router", Image("1.0", "1.0"))
    assert not (tmp_path / "overlay" / "kustomization.yaml").exists()
    (tmp_path / "overlay").mkdir(exist_ok=True)
    wrong_ones = (("[", "can't be read"), ("- x", "is no kustomization"), ("images: [1]", "is no list"))
    for text, wrong in wrong_ones:
        (tmp_path / "overlay" / "kustomization.yaml").write_text(text)
        with pytest.raises(DeliveryError, match=wrong):
            target.running("router")


def test_what_kubectl_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="can't be started"):
        run(["/nowhere/kubectl"])
    with pytest.raises(DeliveryError, match="no such thing"):
        run(["sh", "-c", "echo no such thing >&2; exit 1"])


@pytest.mark.slow  # CI has no kubectl
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl (apt install kubectl)")
def test_kustomize_puts_the_digest_into_the_deployment_and_only_there(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "base")
    target = cluster(tmp_path, base=tmp_path / "base")
    target.deploy("router", Image(ONE, "1.0"))
    built = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "overlay")], capture_output=True, text=True, check=True
    ).stdout
    images = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]["containers"][0]["image"]
        for document in yaml.safe_load_all(built)
        if document["kind"] == "Deployment"
    }
    assert images["router"] == f"registry.internal/x/headrace-router@{ONE}"
    assert "@" not in "".join(image for name, image in images.items() if name != "router")
    assert len(images) > 5
