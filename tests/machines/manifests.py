"""What the manifests of Kubernetes say: settings of services, names in certificates, where containers have what is mounted."""

from pathlib import Path
from typing import Any

import yaml

from headrace.cli.installation import services
from tests.libs.cli.kubernetes_cluster import TREE

SETTINGS = Path("/etc/headrace/settings.yaml")
TLS = Path("/tls")
SECRETS = Path("/secrets")
STATE = Path("/var/lib/headrace")
RUN = Path("/run/headrace")
MODELS = STATE / "models"
FEATURES = STATE / "feast"
METRICS_PORT = 7190
DOOR_PORT = 8443
PORT = 7100
# Callers hear from DNS of these machines within two seconds that a process stops.
NOTICE_S = 3.0


def settings_of(service: str) -> dict[str, Any]:
    """As `base` has them."""
    found: dict[str, Any] = yaml.safe_load((TREE / "base" / service / "settings.yaml").read_text())
    return found


def name_of(service: str) -> str:
    """The DNS name of a service, which its certificate has too."""
    return f"{service}.headrace.svc"


def callers(service: str) -> list[str]:
    """Who may call a service, by its settings."""
    peers = settings_of(service)["server"]["tls"]["peers"]
    return [other for other in services.start_order() if name_of(other) in peers]


def image_of(service: str, version: str) -> str:
    """As `make images` names it."""
    return f"localhost/headrace-{service}:{version}"
