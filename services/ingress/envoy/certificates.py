"""The door's certificate and the CA of its clients: given to Envoy as files that it watches (SDS), so that renewed ones are used
without a restart.

Envoy gets checked copies. A copy is replaced in one step, which a certificate and its key in two files can't be, and what is
unusable never gets to Envoy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.state import atomic
from headrace.state.certificates import bundle_end, pair_end
from services.ingress.config import Http

if TYPE_CHECKING:
    from services.ingress.reporting.metrics import Metrics

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - the name of a type
# Names of the secrets, also in Envoy's configuration; with ".json", of the files in which it looks for them.
NAME = "certificate"
CLIENT_CA = "client_ca"
_NONE = b'{"resources": []}'


class CertificateError(Exception):
    """Files that can't be served. The message names them."""


@dataclass(frozen=True, slots=True)
class Secret:
    """What Envoy gets as one secret: made of `files`, read and checked together.

    `resource` makes Envoy's form of the files' contents, and `end` says when they end (seconds since the epoch; the second
    argument is the time); both raise ValueError.
    """

    name: str
    files: tuple[Path, ...]
    resource: Callable[[list[bytes]], dict[str, Any]]
    end: Callable[[list[bytes], float], float]

    def publish(self, run_dir: Path, now: float) -> float:
        """Gives the files to Envoy. Returns when they end, in seconds since the epoch, as `now`.

        Raises CertificateError; then Envoy gets nothing.
        """
        try:
            contents = [path.read_bytes() for path in self.files]
            ends = self.end(contents, now)
            resource = {"@type": _SECRET, "name": self.name, **self.resource(contents)}
            # The version may be any text. A door that starts with unusable files reads in it when the kept ones end.
            text = json.dumps({"version_info": f"{ends:.0f}", "resources": [resource]}).encode()
            atomic.write(secret_file(run_dir, self.name), text, mode=0o600)
        except (OSError, ValueError) as error:
            names = ", ".join(path.name for path in self.files)
            raise CertificateError(f"{names}: {error}") from error
        return ends

    def begin(self, run_dir: Path, now: float) -> None:
        """Like `publish`, for a door that starts. If the files are unusable, the last good ones stay. If there are none, there is
        no TLS until the files are good.

        Raises CertificateError after this has been arranged.
        """
        try:
            self.publish(run_dir, now)
        except CertificateError:
            if not secret_file(run_dir, self.name).exists():
                atomic.write(secret_file(run_dir, self.name), _NONE, mode=0o600)
            raise

    def kept_end(self, run_dir: Path) -> float:
        """When what Envoy has ends, in seconds since the epoch; 0 if it has none."""
        try:
            return float(json.loads(secret_file(run_dir, self.name).read_bytes())["version_info"])
        except (OSError, ValueError, KeyError):
            return 0.0


def secret_file(run_dir: Path, name: str) -> Path:
    """The path where Envoy looks for a secret."""
    return run_dir.resolve() / f"{name}.json"


def secrets(http: Http) -> list[Secret]:
    """What Envoy needs for the TLS listener; nothing if there is none."""
    if not http.tls:
        return []
    assert http.certificate is not None, "settings with a TLS listener have both"
    assert http.key is not None, "settings with a TLS listener have both"
    pair = Secret(
        NAME,
        (http.certificate, http.key),
        lambda read: {
            "tls_certificate": {"certificate_chain": _inline(read[0]), "private_key": _inline(read[1])}
        },
        lambda read, now: pair_end(read[0], read[1], now),
    )
    if http.client_ca is None:
        return [pair]
    authority = Secret(
        CLIENT_CA,
        (http.client_ca,),
        lambda read: {"validation_context": {"trusted_ca": _inline(read[0])}},
        lambda read, now: bundle_end(read[0], now),
    )
    return [pair, authority]


def _inline(text: bytes) -> dict[str, str]:
    return {"inline_string": text.decode("ascii")}


class CertificateReloads:
    """Gives one changed secret to Envoy. An unusable one is logged, and the last good one stays in use.

    `wall`: seconds since the epoch.
    """

    def __init__(
        self, secret: Secret, run_dir: Path, log: Any, metrics: Metrics, wall: Callable[[], float]
    ) -> None:
        self._secret = secret
        self._run_dir = run_dir
        self._log = log
        self._metrics = metrics
        self._wall = wall
        self._stamps: object = None
        self._refused = ""

    async def check(self) -> None:
        """Checks once. What was refused is tried again each time: it may have been too early for it."""
        stamps = await asyncio.to_thread(self._look)
        if stamps == self._stamps and not self._refused:
            return
        first, self._stamps = self._stamps is None, stamps
        try:
            ends = await asyncio.to_thread(self._secret.publish, self._run_dir, self._wall())
        except CertificateError as error:
            await self._refuse(str(error))
        else:
            self._metrics.certificate(self._secret.name, ends, refused=False)
            if not first:
                self._log.info("certificate taken over", what=self._secret.name)
            self._refused = ""

    async def _refuse(self, why: str) -> None:
        ends = await asyncio.to_thread(self._secret.kept_end, self._run_dir)
        self._metrics.certificate(self._secret.name, ends, refused=True)
        if why != self._refused:
            self._log.error("certificate not taken over", what=self._secret.name, error=why)
        self._refused = why

    def _look(self) -> object:
        return tuple(_stamp(path) for path in self._secret.files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does: time, size and inode; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
