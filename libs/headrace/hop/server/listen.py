"""Where a server listens: a unix socket in a private directory, or TCP with certificates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import grpc

from headrace.hop import config
from headrace.hop.process.certificates import CertificateInstruments
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.transport.frames import SUFFIX
from headrace.hop.transport.tls import TlsError, WatchedTls, server_credentials

_MAX_PATH_BYTES = 107  # of sockaddr_un, without the final zero


class UnixListener:
    """A unix socket that appears under its path at `publish`, in one step.

    It is bound to a name that only this server uses; `publish` renames it to the path. So a successor can start
    beside a running server and replace it without a moment in which no server listens, and neither removes
    the socket of the other.
    """

    def __init__(self, path: Path, suffix: str = "") -> None:
        """`suffix`: follows the path's name. Raises config.ConfigError if the directory is not private or the path too long."""
        self.path = path.with_name(path.name + suffix)
        self._own = path.with_name(f"{path.name}.{secrets.token_hex(3)}")
        if len(os.fsencode(self._own)) > _MAX_PATH_BYTES:
            raise config.ConfigError(
                f"server.listen: {path} is too long for a unix socket; use a shorter directory"
            )
        _private_directory(path.parent)
        self._inode = 0

    def bind(self, bind: Callable[[str], object]) -> None:
        """Lets `bind` bind to this server's own name; only this user may connect."""
        before = os.umask(0o177)
        try:
            bind(os.fspath(self._own))
        except (RuntimeError, OSError) as error:
            raise config.ConfigError(f"server.listen: cannot listen on {self.path}: {error}") from error
        finally:
            os.umask(before)
        self._inode = self._own.stat().st_ino

    def check_free(self) -> None:
        """Raises config.ConfigError if another process listens on the path already."""
        if not self.path.exists():
            return
        if not stat.S_ISSOCK(self.path.stat().st_mode):
            raise config.ConfigError(
                f"server.listen: {self.path} exists and is no socket; remove it or choose another"
            )
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(os.fspath(self.path))
            except (ConnectionRefusedError, FileNotFoundError):
                return  # left behind by a process that was killed
            except OSError as error:
                raise config.ConfigError(
                    f"server.listen: cannot tell who has {self.path}: {error}"
                ) from error
        raise config.ConfigError(
            f"server.listen: another process listens on {self.path}; stop it, or use --replace"
        )

    def publish(self) -> None:
        """Makes the socket reachable under its path. A server that had the path keeps its open connections."""
        self._own.rename(self.path)

    def close(self) -> None:
        """Removes the path unless a successor has it."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        self._own.unlink(missing_ok=True)


class FrameListener(UnixListener):
    """The socket for frames beside a server's own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SUFFIX)
        self._server: asyncio.AbstractServer | None = None

    async def listen(self, accept: Callable[[], asyncio.Protocol]) -> None:
        """Listens, and publishes."""
        bound = socket.socket(socket.AF_UNIX)
        self.bind(bound.bind)
        self._server = await asyncio.get_running_loop().create_unix_server(accept, sock=bound)
        self.publish()

    def close(self) -> None:
        """Takes no more connections."""
        if self._server is not None:
            self._server.close()
        super().close()


def bind_tcp(server: grpc.aio.Server, settings: config.Server, telemetry: Telemetry) -> str:
    """Binds `host:port` and returns the address with the real port. Raises config.ConfigError."""
    if settings.tls is None and not settings.allow_plaintext:
        raise config.ConfigError(
            f"server.listen: {settings.listen} is TCP and needs server.tls; "
            "only a test or a sidecar that does mTLS may set allow_plaintext"
        )
    try:
        if settings.tls is None:
            port = server.add_insecure_port(settings.listen)
        else:
            files = WatchedTls(settings.tls, "server")
            telemetry.once(CertificateInstruments).follow(files, "server")
            port = server.add_secure_port(settings.listen, server_credentials(files))
    except TlsError as error:
        raise config.ConfigError(f"server.tls: {error}") from error
    except RuntimeError as error:
        raise config.ConfigError(f"server.listen: cannot listen on {settings.listen}: {error}") from error
    return f"{settings.listen.rpartition(':')[0]}:{port}"


def _private_directory(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise config.ConfigError(
            f"server.listen: {directory} must belong to this user and be private (chmod 700); "
            "whoever can reach the socket is trusted"
        )
