"""mTLS credentials from files, read again when they change."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from headrace.hop.client.settings import TlsFiles

Stamp = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """The files cannot be used; the text says which and why."""


class WatchedTls:
    """The files of one `config.Tls`, and whether they changed since they were last read."""

    def __init__(self, settings: TlsFiles) -> None:
        self._settings = settings
        self._seen: Stamp | None = None

    def changed(self) -> bool:
        """Whether another `read` would find other files; False while one of them is missing."""
        stamp = self._stamp()
        return stamp is not None and stamp != self._seen

    def read(self) -> tuple[bytes, bytes, bytes]:
        """Certificate chain, key and CA, in PEM.

        Raises TlsError if one cannot be read, or if key and certificate do not belong together (half of a
        rotation).
        """
        settings = self._settings
        stamp = self._stamp()
        try:
            parts = settings.certificate.read_bytes(), settings.key.read_bytes(), settings.ca.read_bytes()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(settings.certificate, settings.key)
            context.load_verify_locations(settings.ca)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"tls: {_where(error)}") from error
        self._seen = stamp
        return parts

    def _stamp(self) -> Stamp | None:
        try:
            return tuple(
                _stamp(p) for p in (self._settings.certificate, self._settings.key, self._settings.ca)
            )
        except OSError:
            return None


def server_credentials(settings: TlsFiles, log: Any) -> grpc.ServerCredentials:
    """Credentials that demand a client certificate and follow the files. Raises TlsError."""
    files = WatchedTls(settings)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        # Runs in gRPC's thread at each handshake; None keeps what is in use.
        if not files.changed():
            return None
        try:
            found = _server_configuration(files)
        except TlsError as error:
            log.warning("new TLS files are unusable; the old ones stay in use", error=str(error))
            return None
        log.info("TLS files reloaded")
        return found

    return grpc.dynamic_ssl_server_credentials(
        _server_configuration(files),
        fetch,  # type: ignore[arg-type] # the stubs forget that None means "no change"
        require_client_authentication=True,
    )


def client_credentials(settings: TlsFiles) -> grpc.ChannelCredentials:
    """Credentials of a channel, from the files as they are now. Raises TlsError.

    A channel keeps what it was made with; `WatchedTls.changed` tells when to make another.
    """
    certificate, key, ca = WatchedTls(settings).read()
    return grpc.ssl_channel_credentials(ca, key, certificate)


def names_of(context: Callable[[], Any]) -> tuple[str, ...]:
    """Names in the peer's certificate, from gRPC's `auth_context`."""
    names = context().get("x509_subject_alternative_name", ())
    return tuple(name.decode("utf-8", "replace") for name in names)


def _server_configuration(files: WatchedTls) -> grpc.ServerCertificateConfiguration:
    certificate, key, ca = files.read()
    return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _where(error: OSError) -> str:
    name = f"{error.filename}: " if getattr(error, "filename", None) else ""
    return f"{name}{error.strerror or error}"
