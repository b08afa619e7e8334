"""Which version of a service its processes run: the checkout that runs the supervisor, or another one.

`HOME/deployed/SERVICE.json` names the folder of the other one (services/ and libs/ in it). Services are deployed apart, so each
has such a file of its own. Settings are made by the version that will read them, as it may have other keys.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headrace.cli.installation.layout import Layout, service_of
from headrace.cli.installation.settings import Installation
from headrace.hop.config import ConfigError
from headrace.state import atomic

_SETTINGS_S = 60.0
# Runs in the version's own Python path. What it calls is all that versions must keep for each other here.
_MAKE_SETTINGS = """
import json, sys
from pathlib import Path
from headrace.cli.installation import layout, settings
told = json.load(sys.stdin)
found = layout.of(Path(told["home"]), root=Path(told["root"]))
installation = settings.Installation(found, told["shape"], told["ports"], told["counts"])
listen, run_dir = Path(told["listen"]), Path(told["run_dir"])
made = settings.settings(installation, told["instance"], slot=told["slot"], listen=listen, run_dir=run_dir)
json.dump(made, sys.stdout, default=str)
"""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a service. `name`: what people call it; may be empty."""

    root: Path
    name: str = ""

    def command(self, *arguments: str) -> tuple[str, ...]:
        """Runs Python with this version's code in place of the checkout's, also in what that process starts."""
        # Without `env` only this process would have the path, and the executor starts others.
        env = shutil.which("env") or "/usr/bin/env"
        return (env, f"PYTHONPATH={self.root}:{self.root / 'libs'}", sys.executable, *arguments)

    async def settings(
        self, installation: Installation, instance: str, slot: int, listen: Path, run_dir: Path
    ) -> dict[str, Any]:
        """As `installation.settings.settings`, by this version. Raises ConfigError, OSError."""
        told = {
            "home": str(installation.layout.home),
            "root": str(self.root),
            "shape": installation.shape,
            "ports": dict(installation.ports),
            "counts": dict(installation.counts),
            "instance": instance,
            "slot": slot,
            "listen": str(listen),
            "run_dir": str(run_dir),
        }
        pipe = asyncio.subprocess.PIPE
        made = await asyncio.create_subprocess_exec(
            *self.command("-c", _MAKE_SETTINGS), stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.root
        )
        try:
            out, err = await asyncio.wait_for(made.communicate(json.dumps(told).encode()), _SETTINGS_S)
        except TimeoutError:
            made.kill()
            await made.wait()
            raise ConfigError(f"{self.root} made no settings of {instance} in {_SETTINGS_S:g} s") from None
        if made.returncode:
            last = (err.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise ConfigError(f"{self.root} can't make settings of {instance}: {last}")
        return dict(json.loads(out))


def of(layout: Layout, service: str) -> Version | None:
    """The deployed version of a service; None: it runs the checkout. Raises ConfigError naming the file and what to do."""
    path = _file(layout, service)
    try:
        told = json.loads(path.read_bytes())
        version = Version(Path(told["root"]), str(told.get("name", "")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path} can't be read ({error}); deploy {service} again, or remove the file"
        ) from None
    if not _has(version.root, service):
        raise ConfigError(
            f"{path}: {version.root} has no services/{service}; deploy {service} again, or remove the file"
        )
    return version


def at(checkout: Path, service: str) -> Version:
    """The version of a service in a checkout. Raises ConfigError: it is not there."""
    root = checkout.absolute()
    if not _has(root, service):
        raise ConfigError(f"{root} has no services/{service}; name a checkout of headrace")
    return Version(root, root.name)


def commit(checkout: Path) -> str:
    """The commit of a checkout; "": git knows none. With uncommitted changes it ends with `-dirty`."""
    # Not of a repository that the folder only lies in.
    own = [f"--git-dir={checkout / '.git'}", f"--work-tree={checkout}"]
    command = ["git", *own, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed arguments
    except (OSError, subprocess.CalledProcessError):
        return ""


def _has(root: Path, service: str) -> bool:
    return (root / "services" / service / "__main__.py").is_file()


def put(layout: Layout, service: str, version: Version | None) -> None:
    """Has the next process of a service run `version`; None: the checkout's. Raises OSError."""
    path = _file(layout, service)
    if version is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told: Mapping[str, Any] = {**asdict(version), "root": str(version.root.absolute())}
    atomic.write(path, json.dumps(told).encode())


def _file(layout: Layout, service: str) -> Path:
    return layout.deployed / f"{service_of(service)}.json"
