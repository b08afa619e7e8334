"""Settings of the console."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from headrace.hop import config


class ConsoleSettings(config.Settings):
    """Where the console listens and what it reads. It changes nothing but releases, and silences alerts."""

    # host:port. Beyond the loopback interface it needs `certificate` and `key`: nobody must read an operator's key on the way.
    listen: str = Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")
    certificate: Path | None = None
    key: Path | None = None

    # File of the secret that sessions are signed with; made if it is absent. Who can read it can forge a session.
    secret: Path
    # The security log, shared with the ingress. Absent: security events are in the service's log only.
    security: Path | None = None

    # The model repository, the public keys that are trusted, the audit of models, and the executors' state (quarantine).
    models: Path | None = None
    model_keys: tuple[Path, ...] = ()
    model_audit: Path | None = None
    executor_state: Path | None = None
    # The journal of who read the audit. Absent: readings are not recorded.
    readings: Path | None = None

    # The folder in which the ingress keeps traces of requests. Absent: the console names the command that shows them.
    traces: Path | None = None
    # http://host:port of Alertmanager. Absent: monitoring itself says what fires.
    alertmanager: str | None = Field(default=None, pattern=r"^https?://")
    # Folder of the runbooks. Absent: alerts name theirs, and it is not shown.
    runbooks: Path | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _closed(self) -> Self:
        host, port = self.address
        if not 0 <= port < 65536:
            raise ValueError(f"listen: {port} is no port")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.certificate is None and not _is_loopback(host):
            raise ValueError(
                f"listen: {host} can be reached from other machines; name 127.0.0.1, or give certificate and key"
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
