"""A container of an image, as it runs in a cluster: not as root, with a read-only root and no capability."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploy.images import podman
from deploy.images.context import ImageError

HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--pids-limit=128",
)
MEMORY = "256m"
STATE = "/var/lib/headrace"
METRICS = "127.0.0.1:7190"
SOCKET = "unix:/run/headrace/service.sock"
# Prints how long after its container's start the service was ready, in seconds. Seen every 20 ms, in the container, whose network
# nobody else reaches.
_READY = """
import datetime, sys, time, urllib.request
begin = datetime.datetime.fromisoformat(sys.argv[1])
end = time.monotonic() + 120
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:7190/ready", timeout=5)
        break
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"not ready: {error}")
        time.sleep(0.02)
print((datetime.datetime.now(datetime.UTC) - begin).total_seconds())
"""


def found(image: str) -> str:
    """The name of the image; the test is skipped if it is not here."""
    try:
        return podman.image(f"localhost/headrace-{image}:latest").name
    except ImageError as error:
        pytest.skip(f"no image by podman here, see `make images`: {error}")


def inside(image: str, code: str, *arguments: str, memory: str = MEMORY) -> str:
    """What Python prints in a container of the image."""
    options = ("run", "--rm", *HARDENED, f"--memory={memory}", *podman.limits())
    return podman.podman(*options, "--entrypoint=/usr/bin/python3", found(image), "-c", code, *arguments)


@dataclass(frozen=True)
class Container:
    """A running container."""

    name: str
    # /run/headrace in it, which only its user may enter.
    sockets: Path

    def python(self, code: str, *arguments: str) -> str:
        """What Python prints in it, called as the hooks of a pod call it. Raises ImageError with what it said."""
        return podman.podman("exec", self.name, "python", "-c", code, *arguments)

    def ready_s(self) -> float:
        """Waits until it is ready, for at most two minutes; seconds from its start. Raises ImageError with its log."""
        begin = podman.podman(
            "inspect",
            self.name,
            "--format={{.State.StartedAt.UTC.Format `2006-01-02T15:04:05.000000Z07:00`}}",
        )
        try:
            return float(self.python(_READY, begin.strip()))
        except ImageError as error:
            raise ImageError(f"{error}\n{self.log()}") from error

    def log(self) -> str:
        """What it has printed, its last lines."""
        done = subprocess.run(
            ["podman", "logs", "--tail=80", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def stopped(self) -> int:
        """Ends it by SIGTERM, or after 30 s by SIGKILL; its exit code."""
        podman.podman("stop", "-t", "30", self.name)
        return int(podman.podman("inspect", self.name, "--format={{.State.ExitCode}}"))


@contextmanager
def running(
    image: str, settings: Mapping[str, Any], folder: Path, *, state: Path | None = None, memory: str = MEMORY
) -> Iterator[Container]:
    """A container with these settings. `state`: what /var/lib/headrace holds; a copy of it is given to the container's user."""
    sockets, mounted, kept = (folder / name for name in ("s", "settings", "state"))
    for path, mode in ((sockets, 0o700), (mounted, 0o755)):
        path.mkdir()
        path.chmod(mode)
    (mounted / "settings.yaml").write_text(json.dumps(settings))
    if state is None:
        kept.mkdir()
    else:
        shutil.copytree(state, kept)
    name = f"headrace-test-{uuid.uuid4().hex[:12]}"
    # U: its user gets them, whatever that user is called outside.
    volumes = (f"{mounted}:/etc/headrace:ro", f"{sockets}:/run/headrace:U", f"{kept}:{STATE}:U")
    podman.podman(
        *("run", "-d", "--name", name, *HARDENED, f"--memory={memory}", *podman.limits(), "--tmpfs=/tmp"),
        *(f"--volume={volume}" for volume in volumes),
        *(found(image), "--config", "/etc/headrace/settings.yaml"),
    )
    try:
        yield Container(name, sockets)
    finally:
        podman.podman("rm", "-f", "-t", "5", name)
