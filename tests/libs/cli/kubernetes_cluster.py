"""What an overlay of `deploy/kubernetes` is after `kustomize build`: objects by kind and name, and what refers to what."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml

TREE = Path(__file__).parents[3] / "deploy" / "kubernetes"
OVERLAYS = ("cpu", "gpu", "edge")
# The Deployment of the warm pool.
PLACEHOLDER = "placeholder"
# What the README asks of whoever applies an overlay.
BROUGHT_SECRETS = "-secrets"
BROUGHT_CLAIMS = {"models", "feast"}
Object = dict[str, Any]


def build(folder: Path) -> str:
    """The text that would be applied. Fails with kustomize's words."""
    done = subprocess.run(["kustomize", "build", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def built(overlay: str) -> tuple[Object, ...]:
    return read(build(TREE / "overlays" / overlay))


def read(text: str) -> tuple[Object, ...]:
    """The objects in a text."""
    # Reading in Python takes two seconds. The C loader is as safe.
    return tuple(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def by_name(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    found = {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}
    assert len(found) == sum(each["kind"] == kind for each in objects), f"two of one name: {kind}"
    return found


def pod_of(deployment: Object) -> Object:
    pod: Object = deployment["spec"]["template"]["spec"]
    return pod


def references(objects: tuple[Object, ...]) -> Iterator[tuple[str, str]]:
    """(kind, name) of each object in the namespace that another one names."""
    for deployment in by_name(objects, "Deployment").values():
        pod = pod_of(deployment)
        if "serviceAccountName" in pod:
            yield "ServiceAccount", pod["serviceAccountName"]
        if "priorityClassName" in pod:
            yield "PriorityClass", pod["priorityClassName"]
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                yield "ConfigMap", volume["configMap"]["name"]
            if "secret" in volume:
                yield "Secret", volume["secret"]["secretName"]
            if "persistentVolumeClaim" in volume:
                yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for scaled in by_name(objects, "ScaledObject").values():
        yield "Deployment", scaled["spec"]["scaleTargetRef"]["name"]
    for certificate in by_name(objects, "Certificate").values():
        yield "Issuer", certificate["spec"]["issuerRef"]["name"]
    for issuer in by_name(objects, "Issuer").values():
        if "ca" in issuer["spec"]:
            yield "Secret", issuer["spec"]["ca"]["secretName"]


def paths(value: Any) -> list[str]:
    """The absolute paths in settings, also those in URLs."""
    if isinstance(value, dict):
        return [path for inner in value.values() for path in paths(inner)]
    if isinstance(value, list):
        return [path for inner in value for path in paths(inner)]
    address, _, options = str(value).partition("?")
    named = [address.removeprefix("unix:"), *(given for _, given in parse_qsl(options))]
    return [path for path in named if path.startswith("/") and not path.startswith("/dev/")]


def limit_of(deployment: Object) -> int:
    """The memory limit of its pods' one container, in MiB."""
    [container] = pod_of(deployment)["containers"]
    return int(container["resources"]["limits"]["memory"].removesuffix("Mi"))


def query_of(objects: tuple[Object, ...], service: str) -> str:
    """PromQL by which a service scales."""
    [trigger] = by_name(objects, "ScaledObject")[service]["spec"]["triggers"]
    query: str = trigger["metadata"]["query"]
    return query


def settings_of(objects: tuple[Object, ...], deployment: str) -> str:
    """The text of the settings that a Deployment mounts."""
    pod = pod_of(by_name(objects, "Deployment")[deployment])
    [name] = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
    text: str = by_name(objects, "ConfigMap")[name]["data"]["settings.yaml"]
    return text
