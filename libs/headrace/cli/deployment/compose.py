"""A file for `podman compose` or `docker compose`: all services on one machine, a container each, over the same certificates."""

from __future__ import annotations

from typing import Any

from headrace.cli.deployment import description as mounted
from headrace.cli.deployment import service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.installation import services


def files(description: Description) -> dict[str, Any]:
    """The content of each file, by its name. Beside them have to be the certificates (`tls/SERVICE`), `secrets`, `models` and the
    feature repository (`feast`). PostgreSQL and Redis are the user's own, on the same network."""
    made: dict[str, Any] = {}
    containers: dict[str, Any] = {}
    for service in services.start_order():
        settings = service_settings.of(description, service)
        made[f"settings/{service}.yaml"] = settings
        containers[service] = _container(description, service, str(settings))
    made["compose.yaml"] = {
        "services": containers,
        "volumes": {f"{service}-state": {} for service in services.start_order()},
    }
    return made


def _container(description: Description, service: str, named: str) -> dict[str, Any]:
    volumes = [
        f"./settings/{service}.yaml:{mounted.SETTINGS}/settings.yaml:ro",
        f"./tls/{service}:{mounted.TLS}:ro",
        f"{service}-state:{mounted.STATE}",
    ]
    given = {"secrets": mounted.SECRETS, "models": mounted.MODELS, "feast": mounted.FEATURES}
    volumes += [f"./{name}:{folder}:ro" for name, folder in given.items() if str(folder) in named]
    made: dict[str, Any] = {
        "image": description.image(service),
        "command": ["--config", f"{mounted.SETTINGS}/settings.yaml"],
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "stop_grace_period": f"{description.grace_s}s",
        "tmpfs": [f"{mounted.RUN}:mode=1777", "/tmp"],  # noqa: S108 - in the container
        "volumes": volumes,
        # The name in its certificate, by which callers look for it.
        "networks": {"default": {"aliases": [service_settings.name_of(description, service)]}},
    }
    if service == services.INGRESS:
        each = service_settings.name_of(description, service_settings.EACH_DOOR)
        made["networks"]["default"]["aliases"].append(each)
        made["ports"] = [f"{mounted.DOOR_PORT}:{mounted.DOOR_PORT}"]
    return made
