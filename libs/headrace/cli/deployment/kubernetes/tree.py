"""The files of `deploy/kubernetes`."""

from __future__ import annotations

from typing import Any

from headrace.cli.deployment import service_settings
from headrace.cli.deployment.description import Description
from headrace.cli.deployment.kubernetes import network, objects, overlays, scalers
from headrace.cli.deployment.kubernetes.manifest import kustomization
from headrace.cli.installation import services


def files(description: Description) -> dict[str, Any]:
    """The content of each file, by its name; a list is one of several documents."""
    made = {f"base/{name}": content for name, content in _base(description).items()}
    return made | scalers.components(description) | overlays.files(description)


def _base(description: Description) -> dict[str, Any]:
    names = services.start_order()
    made: dict[str, Any] = {}
    for service in names:
        unit = objects.unit(description, service)
        made[f"settings/{service}.yaml"] = unit.settings
        made[f"{service}.yaml"] = objects.of(description, unit)
    made["namespace.yaml"] = [objects.namespace(description), network.default_deny()]
    made["kustomization.yaml"] = kustomization(
        "Kustomization",
        namespace=description.namespace,
        resources=["namespace.yaml", *(f"{name}.yaml" for name in names)],
        # The name of a generated map has a hash: a change of settings rolls the service, and it alone.
        configMapGenerator=[service_settings.map_of(name) for name in names],
    )
    return made
