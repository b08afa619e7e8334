"""mTLS credentials from files, read again when they change. Files that no peer would accept are not taken up."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import grpc

if TYPE_CHECKING:
    from headrace.hop.client.settings import TlsFiles

_log = logging.getLogger(__name__)
Side = Literal["server", "client"]
_Files = tuple[Path, Path, Path]
_Stamp = tuple[tuple[int, int, int], ...]
# Refused files are tried again without a change: a certificate that is not valid yet will be.
_AGAIN_S = 5.0
# More than a handshake has.
_MOST_FLIGHTS = 8


class TlsError(Exception):
    """The files cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Pem:
    """Certificate chain, key and CA, and when the certificate and the last of the CAs end, in seconds since the epoch."""

    certificate: bytes
    key: bytes
    ca: bytes
    certificate_end: float
    ca_end: float


class WatchedTls:
    """The files of one `config.Tls`, of which the last good ones are in use. Several threads may use it.

    `side`: who shows the certificate. `refused`: why newer files are not in use; "" if they are. The constructor raises TlsError.
    """

    def __init__(self, settings: TlsFiles, side: Side, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused = ""
        self._files = (settings.certificate, settings.key, settings.ca)
        self._side = side
        self._clock = clock
        self._lock = threading.Lock()
        self._again_at = 0.0
        self._seen = _stamp(self._files)
        self._pem = _read(self._files, side)

    def look(self) -> Pem:
        """The files as they are if they are good, else as they last were. Another object than before: there are new ones."""
        with self._lock:
            stamp = _stamp(self._files)
            if stamp == self._seen and not (self.refused and self._clock() >= self._again_at):
                return self._pem
            self._seen = stamp
            try:
                self._pem = _read(self._files, self._side)
            except TlsError as error:
                self._again_at = self._clock() + _AGAIN_S
                if self.refused != str(error):
                    self.refused = str(error)
                    _log.warning("new TLS files are unusable; the old ones stay in use: %s", error)
            else:
                self.refused = ""
                _log.info("TLS files of this %s reloaded", self._side)
            return self._pem


def server_credentials(files: WatchedTls) -> grpc.ServerCredentials:
    """Credentials that demand a client certificate and follow the files."""
    given = files.look()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Runs in gRPC's thread at each handshake; None keeps what is in use.
        nonlocal given
        found = files.look()
        if found is given:
            return None
        given = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        fetch,  # type: ignore[arg-type] # the stubs forget that None means "no change"
        require_client_authentication=True,
    )


def client_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """Credentials of a channel, which keeps them; `WatchedTls.look` tells when to make another channel."""
    return grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)


def names_of(context: Callable[[], Any]) -> tuple[str, ...]:
    """Names in the peer's certificate, from gRPC's `auth_context`."""
    names = context().get("x509_subject_alternative_name", ())
    return tuple(name.decode("utf-8", "replace") for name in names)


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.ca)


def _read(files: _Files, side: Side) -> Pem:
    """Raises TlsError if a file cannot be read, if key and certificate do not belong together (half of a rotation), or if the
    CA does not verify the certificate now."""
    certificate, key, ca = files
    stamp = _stamp(files)
    try:
        parts = certificate.read_bytes(), key.read_bytes(), ca.read_bytes()
        ends = _ends(files, side)
    except ssl.SSLCertVerificationError as error:
        raise TlsError(f"{ca} does not verify {certificate}: {error.verify_message}") from error
    except (OSError, ValueError) as error:
        raise TlsError(f"{_where(error)}") from error
    if stamp is None or _stamp(files) != stamp:
        raise TlsError(f"{certificate}, {key} or {ca} changed while they were read")
    return Pem(*parts, *ends)


def _ends(files: _Files, side: Side) -> tuple[float, float]:
    """When the certificate and the last of the CAs end. A handshake with itself shows whether the CA verifies the certificate:
    Python's `ssl` verifies nothing without one. Raises OSError (SSLError is one) or ValueError."""
    certificate, key, ca = files
    # Who shows the certificate, and who verifies it. A server has to show one all the same.
    shows, verifies = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    shows.load_cert_chain(certificate, key, password=_no_password)
    if side == "client":
        shows, verifies = verifies, shows
        shows.load_cert_chain(certificate, key, password=_no_password)
    for context, mode in ((shows, ssl.CERT_NONE), (verifies, ssl.CERT_REQUIRED)):
        context.check_hostname = False
        context.verify_mode = mode
    # As in gRPC: the CA may be signed by another that is not in the file.
    verifies.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    verifies.load_verify_locations(ca)
    shown = _handshake(shows, verifies, side)
    authorities = [_seconds(found["notAfter"]) for found in verifies.get_ca_certs()]
    return shown, max(authorities, default=shown)


def _handshake(shows: ssl.SSLContext, verifies: ssl.SSLContext, side: Side) -> float:
    """When the certificate ends that one context shows to the other. Raises SSLError."""
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    verifier = verifies.wrap_bio(one, other, server_side=side == "client")
    shower = shows.wrap_bio(other, one, server_side=side == "server")
    for _ in range(_MOST_FLIGHTS):
        # The verifier first: its error says more than the alert that the other would get.
        if all([_advance(verifier), _advance(shower)]):
            break
    peer = verifier.getpeercert()
    assert peer is not None, "a handshake with CERT_REQUIRED ended"
    return _seconds(peer["notAfter"])


def _advance(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _no_password() -> bytes:
    # Without it, an encrypted key would ask for its password at the terminal.
    return b""


def _seconds(text: Any) -> float:
    return float(ssl.cert_time_to_seconds(text))


def _stamp(files: _Files) -> _Stamp | None:
    """What changes when a file does, through links too; None while one is missing."""
    try:
        found = [path.stat() for path in files]
    except OSError:
        return None
    return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def _where(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}"
