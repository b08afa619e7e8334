"""The Redis of the machines: releases, keys of calls and online features."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from headrace.cli.installation import first_releases, layout
from headrace.releases import open_store
from tests.machines.forwarding import Forwarded
from tests.machines.network import Network, connect, entering
from tests.redis_server import VALKEY
from tests.system import HOME, ROOT, poll

PASSWORD = "of-the-machines"
_PORT = 6379
_DUMP = "machines.rdb"


class Store:
    """A server with a password in a namespace outside the machines, so that it outlives each of them."""

    def __init__(self, folder: Path, network: Network) -> None:
        self._kept = _kept()
        self._folder = folder
        self._namespace, self.address = network.pod(0)
        if self._kept.exists():
            shutil.copy(self._kept / _DUMP, folder)
        options = ["--port", str(_PORT), "--bind", self.address, "--dir", str(folder), "--dbfilename", _DUMP]
        self._process = subprocess.Popen(
            [*entering(self._namespace), VALKEY, *options, "--save", "", "--requirepass", PASSWORD],
            stdout=subprocess.DEVNULL,
        )
        poll("the machines' Redis", self._listens)
        self.near = Forwarded(lambda: connect(self._namespace, self.address, _PORT))

    def secrets(self, folder: Path) -> None:
        """Writes what services need to reach it."""
        self.place = f"redis://{self.near.address}/0?password_file={folder / 'redis-password'}"
        (folder / "redis-password").write_text(PASSWORD)
        (folder / "redis-url").write_text(f"redis://:{PASSWORD}@redis:{_PORT}/0")

    def fill(self, features: Path) -> None:
        """First releases of the checkout's pipelines, and the flights features in a repository that reads them here.

        Both are kept in the home, as Feast takes a minute; what was prepared anew is filled in anew.
        """
        if not self._kept.exists():
            self._release()
            part = self._kept.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            places = [f"{host},password={PASSWORD}" for host in (self.near.address, f"redis:{_PORT}")]
            command = [
                sys.executable,
                "-m",
                "tests.faults.redis_repo",
                str(part / "feast"),
                str(HOME / "data"),
            ]
            subprocess.run([*command, *places], cwd=ROOT, check=True, capture_output=True)
            self._save()
            shutil.copy(self._folder / _DUMP, part)
            part.rename(self._kept)
        shutil.copytree(self._kept / "feast", features)

    def _release(self) -> None:
        store = open_store(self.place)
        made = first_releases.make(layout.of(HOME), store, ROOT / "deploy" / "pipelines")
        problems = [outcome.problem for outcome in made if outcome.problem]
        assert not problems, problems
        store.close()

    def _save(self) -> None:
        with connect(self._namespace, self.address, _PORT, 30) as asking:
            asking.sendall(f"AUTH {PASSWORD}\r\nSAVE\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                answer += asking.recv(64)
        assert answer == b"+OK\r\n" * 2, answer

    def close(self) -> None:
        with suppress(AttributeError):
            self.near.close()
        self._process.terminate()
        self._process.wait()

    def _listens(self) -> bool:
        try:
            connect(self._namespace, self.address, _PORT, 0.5).close()
        except OSError:
            return False
        return True


def _kept() -> Path:
    """Where the filled store of what is prepared now is kept."""
    stamps = [(HOME / name).read_bytes() for name in ("flights.json", "moderation.json")]
    return HOME / "machines" / hashlib.sha256(b"".join(stamps)).hexdigest()[:16]
