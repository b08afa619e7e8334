"""Runs one service of a pod as a container of its image: not as root, on a read-only root, without any capability."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from deploy.images import podman
from deploy.images.context import ImageError
from tests.libs.cli.kubernetes_cluster import built, by_name, limit_of
from tests.machines import manifests
from tests.machines.processes import Mounts
from tests.stopped import send
from tests.system import poll

USER = 65532
_HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=256")
_NAMESPACES = Path("/run/netns")


class Containers:
    """Containers of the images that `make images` builds, in the pod's network and with what a cluster mounts.

    `version`: of the images. Memory limits are those of the manifests.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self._folder = folder
        self._version = version

    def start(self, service: str, name: str, namespace: str, mounts: Mounts) -> _Container:
        own = self._folder / name
        # As volumes of a cluster: the container's user may write there, and enters its sockets' folder alone.
        state, run = own / "state", own / "run"
        for made in (state, run):
            made.mkdir(parents=True, mode=0o700)
            os.chown(made, USER, USER)
        volumes = [
            f"{mounts.settings}:{manifests.SETTINGS}:ro",
            f"{mounts.tls}:{manifests.TLS}:ro",
            f"{mounts.resolv}:/etc/resolv.conf:ro",
            f"{state}:{manifests.STATE}",
            f"{run}:{manifests.RUN}",
        ]
        named = mounts.settings.read_text()
        given = {
            mounts.secrets: manifests.SECRETS,
            mounts.models: manifests.MODELS,
            mounts.features: manifests.FEATURES,
        }
        volumes += [f"{source}:{inside}:ro" for source, inside in given.items() if str(inside) in named]
        options = [
            *_HARDENED,
            *podman.limits(),
            f"--network=ns:{_NAMESPACES / namespace}",
            f"--memory={limit_of(by_name(built('cpu'), 'Deployment')[service])}m",
            "--tmpfs=/tmp",
            # Its lines go into our file as they are, with nobody in between.
            "--log-driver=passthrough",
            *(f"--volume={volume}" for volume in volumes),
        ]
        full = f"{self._folder.parent.name}-{name}"
        return _Container(full, manifests.image_of(service, self._version), options, own / "log")


class _Container:
    def __init__(self, name: str, image: str, options: list[str], log: Path) -> None:
        self.log = log
        self._name = name
        self._started = log.with_name("pid")
        command = ["run", "--rm", "--name", name, "--pidfile", str(self._started), *options, image]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_podman(), *command, "--config", str(manifests.SETTINGS)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
            )

    @property
    def pid(self) -> int:
        return int(poll(f"{self._name} has a process", self._pid, 60))

    def signal(self, number: int) -> None:
        # Past podman, whose own start takes processor time; the container's process 1 hands it on.
        if self.ended() is None:
            send(self.pid, number)

    def ended(self) -> int | None:
        # podman ends with the container's exit code.
        return self._process.poll()

    def run(self, *command: str) -> None:
        podman.podman("exec", self._name, "python", "-m", *command, "--config", str(manifests.SETTINGS))

    def _pid(self) -> str:
        assert self.ended() is None, f"{self._name} ended:\n{self.log.read_text()[-3000:]}"
        return self._started.read_text().strip() if self._started.exists() else ""


def missing(services: list[str], version: str) -> str:
    """Of which service there is no image here; "": of none."""
    for service in services:
        try:
            podman.image(manifests.image_of(service, version))
        except (ImageError, OSError) as error:
            return f"{service}: {error}"
    return ""


def _podman() -> list[str]:
    return ["podman", *(("--runtime", "runc") if shutil.which("runc") else ())]
