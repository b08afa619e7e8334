"""Forms that all manifests share."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def labels(name: str) -> dict[str, str]:
    """The labels of a service's pods and of all that belongs to it."""
    return {"app.kubernetes.io/name": name, **part()}


def part() -> dict[str, str]:
    """The label that all objects here have."""
    return {"app.kubernetes.io/part-of": "headrace"}


def manifest(version: str, kind: str, name: str, **more: Any) -> Object:
    """An object with the labels of the service `name`."""
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels(name)},
        **more,
    }


def kustomization(kind: str, **fields: Any) -> Object:
    """A `kustomization.yaml`; `kind`: Kustomization or Component."""
    version = "v1beta1" if kind == "Kustomization" else "v1alpha1"
    return {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind, **fields}
