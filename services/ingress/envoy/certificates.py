"""The door's certificate: given to Envoy as a file that it watches (SDS), so that a renewed one is served without a restart.

Envoy gets one file with a copy of both the certificate and the key. As two files they can't be replaced in one step, and between
the two steps they would not match each other.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from headrace.state import atomic
from services.ingress.config import Http
from services.ingress.documents.watch import stamp_of
from services.ingress.ports import Log

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - the name of a type
# Name of the secret, also in Envoy's configuration.
NAME = "door"
_FILE = "certificate.json"


class CertificateError(Exception):
    """A certificate or key that can't be served. The message names the files."""


def secret_file(run_dir: Path) -> Path:
    """The path where Envoy looks for the certificate."""
    return run_dir.resolve() / _FILE


def publish(http: Http, run_dir: Path) -> float:
    """Gives the certificate to Envoy. Returns when it expires, in seconds since the epoch.

    Raises CertificateError; then Envoy gets nothing.
    """
    assert http.certificate is not None, "settings with a TLS listener have both"
    assert http.key is not None, "settings with a TLS listener have both"
    try:
        chain, key = http.certificate.read_bytes(), http.key.read_bytes()
        ends = _checked(chain, key)
        atomic.write(secret_file(run_dir), _secret(chain, key), mode=0o600)
    except (OSError, ValueError) as error:
        # SSLError is a subclass of OSError.
        raise CertificateError(f"{http.certificate.name}, {http.key.name}: {error}") from error
    return ends


def begin(http: Http, run_dir: Path) -> None:
    """Like `publish`, for a door that starts. If the certificate is unusable, the last good one stays. If there is no last good
    one, TLS does not work until there is a good certificate.

    Raises CertificateError after this has been arranged.
    """
    try:
        publish(http, run_dir)
    except CertificateError:
        if not secret_file(run_dir).exists():
            atomic.write(secret_file(run_dir), b'{"resources": []}', mode=0o600)
        raise


def _checked(chain: bytes, key: bytes) -> float:
    """When the certificate expires. Raises ValueError or SSLError if a file is no certificate or key, or they do not match."""
    certificate = x509.load_pem_x509_certificate(chain)
    # The ssl module reads files only.
    with tempfile.NamedTemporaryFile(suffix=".pem") as both:
        both.write(key.rstrip() + b"\n" + chain)
        both.flush()
        # An encrypted key would ask for its password at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(both.name, password=lambda: b"")
    return certificate.not_valid_after_utc.timestamp()


def _secret(chain: bytes, key: bytes) -> bytes:
    pair = {
        "certificate_chain": {"inline_string": chain.decode("ascii")},
        "private_key": {"inline_string": key.decode("ascii")},
    }
    return json.dumps({"resources": [{"@type": _SECRET, "name": NAME, "tls_certificate": pair}]}).encode()


class CertificateReloads:
    """Gives a changed certificate to Envoy. An unusable one is logged, and the last good one stays in use.

    `ends`: called with the time at which the served certificate expires, in seconds since the epoch.
    """

    def __init__(self, http: Http, run_dir: Path, log: Log, ends: Callable[[float], None]) -> None:
        self._http = http
        self._run_dir = run_dir
        self._log = log
        self._ends = ends
        self._stamps: object = None

    async def check(self) -> None:
        """Checks once."""
        stamps = await asyncio.to_thread(self._look)
        if stamps == self._stamps:
            return
        first = self._stamps is None
        try:
            self._ends(await asyncio.to_thread(publish, self._http, self._run_dir))
        except CertificateError as error:
            self._log.error("certificate not taken over", error=str(error))
        else:
            if not first:
                self._log.info("certificate taken over")
        self._stamps = stamps

    def _look(self) -> object:
        return tuple(stamp_of(path) for path in (self._http.certificate, self._http.key))
