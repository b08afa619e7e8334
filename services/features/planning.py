"""What to read for one feature service: compiled from the registry off the request path, immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from headrace.columns import DType
from services.features import entity_keys
from services.features.packing import DTYPES, Packer, packer


@dataclass(frozen=True, slots=True)
class EntityKey:
    """A join key. `name`: its column in requests; `stored`: its name in stored keys; `dtype`: BYTES (text) or an integer."""

    name: str
    dtype: DType
    stored: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. `field`: the field of Feast's Value that holds it."""

    name: str
    field: str

    @property
    def dtype(self) -> DType | None:
        """Type of its column; None for lists, maps and the like, which have none."""
        return DTYPES.get(self.field)


@dataclass(frozen=True)
class ViewPlan:
    """The part of one feature view that is read. `ttl_s`: how old a value may be; 0 = any age.

    `name`: as replies call it; `stored`: as the online store calls it. Keys are in the order of their stored names,
    which is their order in stored keys.
    """

    name: str
    stored: str
    keys: tuple[EntityKey, ...]
    features: tuple[Feature, ...]
    ttl_s: float

    @cached_property
    def identity(self) -> str:
        """Plans of the same identity read the same rows in the same form."""
        return repr((self.stored, [(k.stored, k.dtype) for k in self.keys], self.features))

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Name of each feature → its place in rows."""
        return {feature.name: i for i, feature in enumerate(self.features)}

    @cached_property
    def packers(self) -> tuple[Packer, ...]:
        """What packs the column of each feature. Raises KeyError for one without a column type."""
        return tuple(packer(feature.field) for feature in self.features)

    @cached_property
    def key_prefix(self) -> bytes:
        """What the stored keys of its entities begin with."""
        return entity_keys.prefix([key.stored for key in self.keys])

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The columns of its join keys, in the order of stored keys."""
        return tuple(key.name for key in self.keys)


@dataclass(frozen=True)
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
                if keys.setdefault(key.name, key).dtype is not key.dtype:
                    raise Unsupported(f"join key {key.name} has different types in its views")
            for feature in view.features:
                if owners.setdefault(feature.name, view.name) != view.name:
                    raise Unsupported(
                        f"feature {feature.name} is in {owners[feature.name]} and in {view.name}"
                    )
        text = repr((name, [(v.name, v.identity, v.ttl_s) for v in views]))
        return cls(name, tuple(views), tuple(keys.values()), hashlib.sha256(text.encode()).hexdigest()[:12])

    @cached_property
    def key_groups(self) -> tuple[int, ...]:
        """Per view, the first view with the same keys: their rows have the same keys, which are worked out once."""
        first: dict[tuple[EntityKey, ...], int] = {}
        return tuple(first.setdefault(view.keys, i) for i, view in enumerate(self.views))

    @cached_property
    def unpackable(self) -> str:
        """The first feature that no column can hold, with its view; "" if there is none."""
        names = [f"{v.name}:{f.name}" for v in self.views for f in v.features if f.dtype is None]
        return names[0] if names else ""


class Unsupported(Exception):  # noqa: N818 - a finding about a feature service, not a failure
    """A feature service that can't be served; the text says why."""


@dataclass(frozen=True, slots=True)
class Plans:
    """All feature services of a registry. `refused`: name → why it can't be served."""

    services: Mapping[str, ServicePlan]
    refused: Mapping[str, str]
