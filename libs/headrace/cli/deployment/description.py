"""The description of a deployment: what differs between clusters. Where its files are mounted is fixed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop import config

# Where containers find what is mounted. Secrets and certificates are folders, as a file that is mounted alone is never renewed.
SETTINGS = Path("/etc/headrace")
TLS = Path("/tls")
SECRETS = Path("/secrets")
STATE = Path("/var/lib/headrace")
RUN = Path("/run/headrace")
MODELS = STATE / "models"
FEATURES = STATE / "feast"
METRICS_PORT = 7190
DOOR_PORT = 8443
ADMIN_PORT = 9901
# Of the other services: each has addresses of its own.
PORT = 7100


class Description(config.Settings):
    """One deployment. The defaults are those of `deploy/kubernetes/base`."""

    # What the names of services end with: SERVICE.NAMESPACE.svc.
    namespace: str = Field(default="headrace", pattern=r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    # An image is REGISTRY/headrace-NAME:VERSION, and with a digest exactly that one. NAME: a service.
    registry: str = "localhost"
    version: str = "latest"
    digests: dict[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]] = Field(default_factory=dict)
    # Where control keeps what is live and who may. By default the server shows a certificate of the same CA as the services.
    database: str = (
        f"postgresql://headrace@postgres:5432/control?password_file={SECRETS}/postgres-password&sslmode=verify-full"
        f"&sslrootcert={TLS}/ca.crt"
    )
    # Bucket (URL as fsspec has it), or folder of a volume that you mount, in which control keeps what is live for starts without
    # control, and for `headrace recover`.
    artifacts: str | None = None
    # Names in the certificates of people and pipelines that may change what is live at control itself, beside the doors.
    operators: tuple[str, ...] = ()
    # Until this day its operator attests that every volume, database and bucket that has data of this deployment is encrypted;
    # absent: nobody does, and tenants that require it are refused.
    encrypted_until: date | None = None
    # How often callers ask DNS for replicas, and how long what it says may be old.
    resolve_every_s: PositiveFloat = 1.0
    dns_ttl_s: PositiveFloat = 5.0
    # How long calls in flight may take to finish when a process stops.
    drain_s: PositiveFloat = 20.0
    # Memory of the door's container, in MiB.
    door_memory_mb: PositiveInt = 1024

    def image(self, name: str) -> str:
        """The image of a service."""
        digest = f"@{self.digests[name]}" if name in self.digests else ""
        return f"{self.registry}/headrace-{name}:{self.version}{digest}"

    @property
    def notice_s(self) -> float:
        """How long a process that stops still takes calls: its callers have to hear of it from DNS."""
        return self.resolve_every_s + self.dns_ttl_s + 1

    @property
    def grace_s(self) -> int:
        """How long a container may take to stop."""
        return int(self.notice_s + self.drain_s + 15)
