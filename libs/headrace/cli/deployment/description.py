"""The description of a deployment: what differs between clusters. Where its files are mounted is fixed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

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
# MiB; a leaf that is not here needs less.
_MEMORY_MB = {"ingress": 1024, "features": 1024, "executor": 2048, "monitoring": 1024}
_OTHER_MEMORY_MB = 256


class Scale(config.Settings):
    """How a service follows the load."""

    least: PositiveInt = 2
    most: PositiveInt = 40
    # Cores of demand that one pod is meant for. A leaf is one event loop, so it can't use more than one; what is left takes
    # the load until the next pod is there.
    cores: PositiveFloat = 0.6


class Description(config.Settings):
    """One deployment. The defaults are those of `deploy/kubernetes/base`."""

    namespace: str = Field(default="headrace", pattern=r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
    # An image is REGISTRY/headrace-NAME:VERSION, and with a digest exactly that one. NAME: a service, `executor-gpu`, or `edge`,
    # which has all services.
    registry: str = "localhost"
    version: str = "latest"
    digests: dict[str, Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]] = Field(default_factory=dict)
    # Which TensorRT the image executor-gpu has: `tensorrt_rtx`, as `make images` builds it; `tensorrt`, if it was built of
    # wheels of the full one. See deploy/images.
    tensorrt: Literal["tensorrt_rtx", "tensorrt"] = "tensorrt_rtx"
    # Where control keeps what is live and who may. By default the server shows a certificate of the issuer below.
    database: str = (
        f"postgresql://headrace@postgres:5432/control?password_file={SECRETS}/postgres-password&sslmode=verify-full"
        f"&sslrootcert={TLS}/ca.crt"
    )
    # Bucket (URL as fsspec has it), or folder of a volume that you mount, in which control keeps what is live for starts without
    # control, and for `headrace recover`.
    artifacts: str | None = None
    # Names in the certificates of people and pipelines that may change what is live at control itself, beside the doors.
    operators: tuple[str, ...] = ()
    # The issuer of cert-manager that signs the certificates.
    issuer: str = "headrace"
    # Until this day its operator attests that every volume, database and bucket that has data of this deployment is encrypted;
    # absent: nobody does, and tenants that require it are refused.
    encrypted_until: date | None = None
    replicas: dict[str, PositiveInt] = Field(default_factory=dict)
    # How often callers ask DNS for replicas, and how long what it says may be old.
    resolve_every_s: PositiveFloat = 1.0
    dns_ttl_s: PositiveFloat = 5.0
    # How long calls in flight may take to finish when a process stops.
    drain_s: PositiveFloat = 20.0
    # Memory limit of a process by service, in MiB.
    memory_mb: dict[str, PositiveInt] = Field(default_factory=dict)
    # By service, in the overlays that scale.
    scale: dict[str, Scale] = Field(default_factory=dict)
    # Pods of lowest priority that hold room for the executor's next ones.
    warm_pool: PositiveInt = 2
    # Prometheus as KEDA asks it, and the namespace from which it scrapes.
    prometheus: str = "http://prometheus-operated.monitoring.svc:9090"
    scraped_from: str = "monitoring"

    def image(self, name: str) -> str:
        """The image of a service."""
        digest = f"@{self.digests[name]}" if name in self.digests else ""
        return f"{self.registry}/headrace-{name}:{self.version}{digest}"

    def memory(self, service: str) -> int:
        """Memory limit of a service's process, in MiB."""
        return self.memory_mb.get(service, _MEMORY_MB.get(service, _OTHER_MEMORY_MB))

    @property
    def notice_s(self) -> float:
        """How long a process that stops still takes calls: its callers have to hear of it from DNS."""
        return self.resolve_every_s + self.dns_ttl_s + 1

    @property
    def grace_s(self) -> int:
        """How long a container may take to stop."""
        return int(self.notice_s + self.drain_s + 15)
