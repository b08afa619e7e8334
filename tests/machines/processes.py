"""Runs one service of a pod: now as a process of this checkout in the pod's network."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.children import ends_with_tests
from tests.machines import manifests
from tests.machines.network import entering
from tests.stopped import send
from tests.system import ROOT


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a pod of one service mounts: files and folders of the host."""

    settings: Path
    tls: Path
    secrets: Path
    models: Path
    features: Path
    resolv: Path


class Running(Protocol):
    """A service that was started."""

    log: Path

    @property
    def pid(self) -> int:
        """Of its first process, as this host counts."""
        ...

    def signal(self, number: int) -> None: ...
    def ended(self) -> int | None:
        """Exit code; None while it runs."""
        ...

    def run(self, *command: str) -> None:
        """A command in the same pod, as a hook runs; waits for its end. Raises CalledProcessError."""
        ...


class Launcher(Protocol):
    """How pods run: processes, or containers of the images."""

    def start(self, service: str, name: str, namespace: str, mounts: Mounts) -> Running: ...


class Processes:
    """Processes of this checkout. What containers mount at fixed paths is in a folder for each, so settings name that instead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, service: str, name: str, namespace: str, mounts: Mounts) -> Running:
        own = self._folder / name
        state, run = own / "state", own / "run"
        for made in (state, run):
            made.mkdir(parents=True, mode=0o700)
        (state / manifests.MODELS.name).symlink_to(mounts.models)
        shutil.copytree(mounts.features, state / manifests.FEATURES.name)
        places = {
            manifests.STATE: state,
            manifests.RUN: run,
            manifests.TLS: mounts.tls,
            manifests.SECRETS: mounts.secrets,
        }
        settings, feast = own / "settings.yaml", state / manifests.FEATURES.name / "feature_store.yaml"
        url = own / "redis-url"
        for source, made_of in (
            (mounts.settings, settings),
            (feast, feast),
            (mounts.secrets / url.name, url),
        ):
            text = source.read_text()
            for inside, here in places.items():
                text = text.replace(f"{inside}/", f"{here}/").replace(f"{inside}\n", f"{here}\n")
            made_of.write_text(text.replace(str(mounts.secrets / url.name), str(url)))
        return _Process(service, settings, namespace, mounts.resolv, own / "log")


class _Process:
    def __init__(self, service: str, settings: Path, namespace: str, resolv: Path, log: Path) -> None:
        self.log = log
        self._settings = settings
        # The container's own resolv.conf, mounted for this process alone.
        bind = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
        self._before = [*entering(namespace), "unshare", "--mount", "sh", "-c", bind, "sh"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ends_with_tests(*self._command(f"services.{service}", "--config", str(settings))),
                stdout=output,
                stderr=output,
                env=_environment(),
                cwd=ROOT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        if self.ended() is None:
            send(self._process.pid, number)

    def ended(self) -> int | None:
        return self._process.poll()

    def run(self, *command: str) -> None:
        with self.log.open("ab") as output:
            words = self._command(*command, "--config", str(self._settings))
            subprocess.run(words, stdout=output, stderr=output, env=_environment(), cwd=ROOT, check=True)

    def _command(self, *words: str) -> list[str]:
        return [*self._before, sys.executable, "-m", *words]

    def __del__(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'libs'}"}
