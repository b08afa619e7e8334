"""Settings of what follows control, and the follower that they make."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field

from headrace.hop import config
from headrace.hop.client.settings import ClientRules
from headrace.hop.transport.tls import TlsError
from headrace.repository.storage.store import open_store
from headrace.resources.apply import Compile
from headrace.resources.bootstrap import follow
from headrace.resources.follower import Follower
from headrace.resources.remote import RemoteControl


class ControlSettings(config.Settings):
    """Where control is, and how it is believed."""

    # As of all clients: "unix-dir:/path", "host:port[,host:port…]", "dns:///name:port" …
    target: str
    tls: config.ClientTls | None = None
    # Name to check in control's certificate, if it is not the host's.
    server_name: str = ""

    def connect(self) -> RemoteControl:
        """Raises ConfigError."""
        try:
            return RemoteControl(ClientRules(self.target, self.tls, self.server_name))
        except (TlsError, ValueError) as error:
            raise config.ConfigError(f"control: {error}") from None


class ResourceSettings(config.Settings):
    """What a process serves by, and where it keeps that."""

    # PEM files of the public keys of control that are believed: one, or while it is replaced the old one too.
    keys: tuple[Path, ...] = Field(min_length=1)
    # Folder in which the processes of the service on this machine keep what they have. Absent: a start needs one of the others.
    folder: Path | None = None
    # Folder or URL of a bucket to which control writes what is live, for starts without it.
    artifacts: str | None = None


def open_follower(
    service: str,
    control: ControlSettings | None,
    resources: ResourceSettings,
    compilers: Mapping[str, Compile],
    data: Collection[str] = (),
) -> Follower:
    """Follows for this process. Blocks until control has answered, half a second at most. `compilers`, `data`: see `Applier`.

    Raises ConfigError.
    """
    watcher = f"{service} {socket.gethostname()} {os.getpid()}"
    try:
        keys = [path.read_bytes() for path in resources.keys]
        store = None if resources.artifacts is None else open_store(resources.artifacts)
        connected = None if control is None else control.connect()
        return follow(service, watcher, keys, connected, resources.folder, store, compilers, data=data)
    except (OSError, ValueError) as error:
        raise config.ConfigError(f"resources: {error}") from None
