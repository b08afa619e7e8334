"""The key that signs what the data plane follows, from a file that is read again when it changes."""

from __future__ import annotations

import threading
from pathlib import Path

from headrace.hop.config import ConfigError
from headrace.resources.manifest import Manifest, SignedManifest, Signer, public_of


class KeyFile:
    """Threads may share it. A file that has become unusable changes nothing: the last good key signs on."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError: without a key nothing that is published would be believed."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        try:
            self._signer = self._read()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ConfigError(f"signing_key: {path} can't be used: {why}") from None

    def sign(self, manifest: Manifest) -> SignedManifest:
        """By the key that is in the file now."""
        return self._current().sign(manifest)

    def sign_bytes(self, content: bytes) -> bytes:
        """As `sign`; the signature alone."""
        return self._current().sign_bytes(content)

    def public(self) -> bytes:
        """The public key, PEM."""
        return public_of(self._path.read_bytes())

    def _current(self) -> Signer:
        with self._lock:
            try:
                if self._changed():
                    self._signer = self._read()
            except (OSError, ValueError):
                pass  # half of a rotation, or gone
            return self._signer

    def _changed(self) -> bool:
        status = self._path.stat()
        return (status.st_mtime_ns, status.st_ino) != self._stamp

    def _read(self) -> Signer:
        status = self._path.stat()
        signer = Signer(self._path.read_bytes())
        self._stamp = (status.st_mtime_ns, status.st_ino)
        return signer
