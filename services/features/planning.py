"""What to read for one feature service: compiled from the registry off the request path, immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.columns import DType


@dataclass(frozen=True, slots=True)
class EntityKey:
    """A join key. `dtype`: BYTES (text) or an integer type."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class Feature:
    """One scalar feature. `text`: BYTES that come from a string."""

    name: str
    dtype: DType


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """The part of one feature view that is read. `ttl_s`: how old a value may be; 0 = any age.

    `handle`: what the store knows the view by; nobody else looks at it.
    """

    name: str
    keys: tuple[EntityKey, ...]
    features: tuple[Feature, ...]
    ttl_s: float
    handle: object

    @property
    def identity(self) -> tuple[str, tuple[EntityKey, ...], tuple[Feature, ...]]:
        """Plans of the same identity read rows of the same form."""
        return self.name, self.keys, self.features


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """What a feature service reads. `keys`: all join keys of its views."""

    name: str
    views: tuple[ViewPlan, ...]
    keys: tuple[EntityKey, ...]
    revision: str

    @classmethod
    def of(cls, name: str, views: Sequence[ViewPlan]) -> ServicePlan:
        """Raises Unsupported if two views disagree on a name."""
        keys: dict[str, EntityKey] = {}
        owners: dict[str, str] = {}
        for view in views:
            for key in view.keys:
                if keys.setdefault(key.name, key) != key:
                    raise Unsupported(f"join key {key.name} has different types in its views")
            for feature in view.features:
                if owners.setdefault(feature.name, view.name) != view.name:
                    raise Unsupported(
                        f"feature {feature.name} is in {owners[feature.name]} and in {view.name}"
                    )
        text = repr((name, [(v.identity, v.ttl_s) for v in views]))
        return cls(name, tuple(views), tuple(keys.values()), hashlib.sha256(text.encode()).hexdigest()[:12])


class Unsupported(Exception):  # noqa: N818 - a finding about a feature service, not a failure
    """A feature service that can't be served; the text says why."""


@dataclass(frozen=True, slots=True)
class Plans:
    """All feature services of a registry. `refused`: name → why it can't be served."""

    services: Mapping[str, ServicePlan]
    refused: Mapping[str, str]
