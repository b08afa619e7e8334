"""The tenants of the tests' door, and their keys."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from headrace.access.specs import SCOPES, TenantSpec


class Keys(SimpleNamespace):
    """A key of each tenant, by its name."""


TENANTS: Mapping[str, Mapping[str, Any]] = {
    "demo": {"pipelines": ["*"], "priority": 5},
    "other": {"pipelines": ["elsewhere"]},
    "slow": {"pipelines": ["double"], "limits": {"rows_per_s": 0.5, "rows_burst": 1}},
    "readonly": {"pipelines": ["*"], "scopes": ["read"]},
    "operator": {"scopes": ["operate"]},
    "rowwise": {"pipelines": ["*"], "limits": {"rows_per_s": 0.01, "rows_burst": 10}},
    # For tests of their own, as a quota that one test used up is missing in another.
    "reporting": {"pipelines": ["double"], "limits": {"rows_per_s": 0.5, "rows_burst": 1}},
    "repeating": {"pipelines": ["*"], "limits": {"rows_per_s": 0.5, "rows_burst": 2}},
    "regulated": {"pipelines": ["*"], "regulated": True},
    "encrypted": {"pipelines": ["*"], "scopes": SCOPES, "requires_encryption": True},
    "budgeted": {"pipelines": ["*"], "limits": {"distinct_queries_per_day": 5}},
}


def specs(changed: Mapping[str, Mapping[str, Any]]) -> dict[str, TenantSpec]:
    """The tenants, with other values of some."""
    return {name: TenantSpec(**{**values, **changed.get(name, {})}) for name, values in TENANTS.items()}
