"""The Redis of the machines: limits, keys of calls and online features. It speaks TLS alone and asks for certificates."""

import hashlib
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import redis

from tests.children import ends_with_tests
from tests.machines import manifests
from tests.machines.authority import Authority, trust
from tests.machines.forwarding import Forwarded
from tests.machines.network import Network, connect, entering
from tests.system import HOME, ROOT, poll

PASSWORD = "of-the-machines"
_PORT = 6379
_DUMP = "machines.rdb"
_NAME = "redis"
_OUR_FILES = "&".join(
    f"{name}={manifests.TLS}/{file}"
    for name, file in {"ca": "ca.crt", "certificate": "tls.crt", "key": "tls.key"}.items()
)


class Store:
    """A server with a password in a namespace outside the machines, so that it outlives each of them."""

    def __init__(self, folder: Path, network: Network, authority: Authority) -> None:
        self._kept = _kept()
        self._tls = folder / "tls" / _NAME
        self._tls.mkdir(parents=True)
        self._issue(authority)
        trust(self._tls, authority)
        self._namespace, self.address = network.pod(0)
        if self._kept.exists():
            shutil.copy(self._kept / _DUMP, folder)
        self._folder = folder
        self.start()
        self.near = Forwarded(lambda: connect(self._namespace, self.address, _PORT))
        self._dumped = folder / _DUMP

    def start(self) -> None:
        """With what its dump holds."""
        options = ["--bind", self.address, "--dir", str(self._folder), "--dbfilename", _DUMP]
        options += ["--port", "0", "--tls-port", str(_PORT), "--tls-auth-clients", "yes"]
        options += [word for name, file in self._files() for word in (f"--{name}", file)]
        self._process = subprocess.Popen(
            ends_with_tests(
                *entering(self._namespace), "redis-server", *options, "--save", "", "--requirepass", PASSWORD
            ),
            stdout=subprocess.DEVNULL,
        )
        poll("the machines' Redis", self._listens)

    def kill(self) -> None:
        """It is gone at once. What it kept since its dump is lost: leases of limits, keys of calls."""
        self._process.kill()
        self._process.wait()

    def certify(self, authority: Authority) -> None:
        """It shows another certificate from now on."""
        self._issue(authority)
        self._reread()

    def trust(self, *authorities: Authority) -> None:
        """Whose certificates it accepts from now on."""
        trust(self._tls, *authorities)
        self._reread()

    def secrets(self, folder: Path) -> None:
        """Writes what services need to reach it."""
        (folder / "redis-url").write_text(f"rediss://:{PASSWORD}@{_NAME}:{_PORT}/0?{_OUR_FILES}")

    def fill(self, features: Path) -> None:
        """The flights features, in a repository that reads them here.

        They are kept in the home, as Feast takes a minute; what was prepared anew is filled in anew.
        """
        if not self._kept.exists():
            part = self._kept.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            places = [
                _connection(self.near.address, self._tls),
                _connection(f"{_NAME}:{_PORT}", manifests.TLS),
            ]
            folders = str(part / "feast"), str(HOME / "data")
            command = [sys.executable, "-m", "tests.faults.redis_repo", *folders]
            subprocess.run([*command, *places], cwd=ROOT, check=True, capture_output=True)
            with self._client() as client:
                client.save()
            shutil.copy(self._dumped, part)
            part.rename(self._kept)
        shutil.copytree(self._kept / "feast", features)

    def _issue(self, authority: Authority) -> None:
        authority.issue(self._tls, f"{_NAME}.headrace.svc", _NAME)

    def _reread(self) -> None:
        with self._client() as client:
            # All at once: a new certificate and the key of the old one are refused.
            client.execute_command("CONFIG SET", *(word for pair in self._files() for word in pair))

    def _files(self) -> list[tuple[str, str]]:
        names = {"cert": "tls.crt", "key": "tls.key", "ca-cert": "ca.crt"}
        return [(f"tls-{name}-file", str(self._tls / file)) for name, file in names.items()]

    def _client(self) -> redis.Redis:
        host, port = self.near.address.split(":")
        return redis.Redis(
            host=host,
            port=int(port),
            password=PASSWORD,
            ssl=True,
            ssl_ca_certs=str(self._tls / "ca.crt"),
            ssl_certfile=str(self._tls / "tls.crt"),
            ssl_keyfile=str(self._tls / "tls.key"),
        )

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
    # Another program reads no dump of this one, and the repository names how this one is reached.
    stamps.append(b"redis over TLS")
    return HOME / "machines" / hashlib.sha256(b"".join(stamps)).hexdigest()[:16]


def _connection(address: str, tls: Path) -> str:
    """As Feast writes it."""
    files = {"ssl_ca_certs": tls / "ca.crt", "ssl_certfile": tls / "tls.crt", "ssl_keyfile": tls / "tls.key"}
    return ",".join(
        (address, f"password={PASSWORD}", "ssl=true", *(f"{n}={path}" for n, path in files.items()))
    )
