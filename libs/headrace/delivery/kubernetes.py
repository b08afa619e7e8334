"""A target in Kubernetes: a Kustomize overlay that names each image by its digest, applied after each change by kubectl.

The overlay is the state: what it names runs. Kept in git, it is what a GitOps controller follows, too.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from headrace.delivery.deployer import Image, Look
from headrace.delivery.errors import DeliveryError
from headrace.delivery.manifest import reference
from headrace.delivery.oci import checked_digest
from headrace.state import atomic

_FILE = "kustomization.yaml"
_VERSIONS = "headrace.versions"
_HEAD = "# Written by `headrace deliver deploy`: what runs, by digest.\n"
Run = Callable[[Sequence[str]], str]


def run(command: Sequence[str]) -> str:
    """Output of a command. Raises DeliveryError with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - kubectl, as named by the operator
    except OSError as error:
        raise DeliveryError(
            f"{command[0]} can't be started ({error.strerror}); install it or name another"
        ) from None
    if done.returncode:
        raise DeliveryError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout


class Cluster:
    """The overlay in `folder` over the manifests in `base`; images are pulled from `images` (REGISTRY/PATH).

    `kubectl`: the command with its options, such as --context; empty: nothing is applied, the overlay alone is written. `names`:
    all services, each after those that it calls.
    """

    def __init__(
        self,
        folder: Path,
        base: Path,
        images: str,
        names: Sequence[str],
        *,
        namespace: str = "headrace",
        kubectl: Sequence[str] = ("kubectl",),
        timeout_s: float = 300.0,
        run: Run = run,
    ) -> None:
        self._folder, self._base, self._images = folder, base, images.rstrip("/")
        self._names, self._namespace = tuple(names), namespace
        self._kubectl, self._timeout_s, self._run = tuple(kubectl), timeout_s, run

    @property
    def name(self) -> str:
        return f"kubernetes:{self._namespace}"

    def services(self) -> Sequence[str]:
        return self._names

    def running(self, service: str) -> Image | None:
        found = self._entries().get(reference(service))
        return (
            None
            if found is None
            else Image(checked_digest(str(found.get("digest"))), self._versions().get(service, ""))
        )

    def deploy(self, service: str, image: Image | None) -> None:
        entries, versions = self._entries(), self._versions()
        entries.pop(reference(service), None)
        versions.pop(service, None)
        if image is not None:
            name = reference(service)
            digest = checked_digest(image.digest)
            entries[name] = {
                "name": f"localhost/{name}",
                "newName": f"{self._images}/{name}",
                "digest": digest,
            }
            versions[service] = image.version
        self._write(entries, versions)
        if self._kubectl:
            self._run([*self._kubectl, "apply", "-k", str(self._folder)])
            self._run(
                [
                    *self._in_namespace("rollout", "status"),
                    f"deployment/{service}",
                    f"--timeout={self._timeout_s:g}s",
                ]
            )

    def look(self, service: str) -> Look:
        """Whether all its replicas are ready. Requests are not counted here: the alerts of the cluster's Prometheus do."""
        if not self._kubectl:
            return Look()
        asked = [*self._in_namespace("get"), f"deployment/{service}", "-o", "json"]
        try:
            found: Mapping[str, Any] = json.loads(self._run(asked))
            wanted, ready = (
                int(found["spec"]["replicas"]),
                int(found.get("status", {}).get("readyReplicas", 0)),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DeliveryError(f"kubectl told nothing of deployment/{service} ({error})") from None
        return Look() if ready >= wanted else Look(f"{ready} of {wanted} replicas of {service} are ready")

    def _in_namespace(self, *words: str) -> list[str]:
        return [*self._kubectl, "--namespace", self._namespace, *words]

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Name of the image → its entry."""
        entries = self._overlay().get("images", [])
        try:
            return {str(entry["name"]).removeprefix("localhost/"): dict(entry) for entry in entries}
        except (KeyError, TypeError, ValueError):
            raise DeliveryError(f"{self._folder / _FILE}: `images` is no list of images with names") from None

    def _versions(self) -> dict[str, str]:
        annotations = self._overlay().get("metadata", {}).get("annotations", {})
        return dict(json.loads(annotations.get(_VERSIONS, "{}")))

    def _overlay(self) -> dict[str, Any]:
        path = self._folder / _FILE
        try:
            found = yaml.safe_load(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, yaml.YAMLError) as error:
            raise DeliveryError(f"{path} can't be read ({error})") from None
        if not isinstance(found, dict):
            raise DeliveryError(f"{path} is no kustomization")
        return found

    def _write(self, entries: Mapping[str, Mapping[str, Any]], versions: Mapping[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        overlay = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "metadata": {
                "name": "headrace",
                "annotations": {_VERSIONS: json.dumps(dict(sorted(versions.items())))},
            },
            # Kustomize takes no absolute paths.
            "resources": [os.path.relpath(self._base.resolve(), self._folder.resolve())],
            "images": [entries[name] for name in sorted(entries)],
        }
        text = _HEAD + yaml.safe_dump(overlay, sort_keys=False)
        atomic.write(self._folder / _FILE, text.encode())
