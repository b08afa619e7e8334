"""The tenants of the tests' door, and their keys."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.state import tenants


@dataclass
class Keys:
    """Clear text of the keys in the tenants document."""

    demo: str
    other: str
    slow: str
    readonly: str
    operator: str
    rowwise: str
    reporting: str
    repeating: str
    budgeted: str
    regulated: str


def write_tenants(path: Path) -> Keys:
    texts: dict[str, str] = {}

    def spec(name: str, **fields: Any) -> tenants.TenantSpec:
        texts[name], key = tenants.new_key(created=datetime(2026, 1, 1, tzinfo=UTC))
        return tenants.TenantSpec(keys=(key,), **fields)

    file = tenants.TenantsFile(
        tenants={
            "demo": spec("demo", pipelines=("*",), priority=5),
            "other": spec("other", pipelines=("elsewhere",)),
            "slow": spec("slow", pipelines=("double",), limits={"rows_per_s": 0.5, "rows_burst": 1}),
            "readonly": spec("readonly", pipelines=("*",), scopes=("read",)),
            "operator": spec("operator", scopes=("operate",)),
            "rowwise": spec("rowwise", pipelines=("*",), limits={"rows_per_s": 0.01, "rows_burst": 10}),
            # For tests of their own, as a quota that one test used up is missing in another.
            "reporting": spec(
                "reporting", pipelines=("double",), limits={"rows_per_s": 0.5, "rows_burst": 1}
            ),
            "repeating": spec("repeating", pipelines=("*",), limits={"rows_per_s": 0.5, "rows_burst": 2}),
            "regulated": spec("regulated", pipelines=("*",), regulated=True),
            "budgeted": spec("budgeted", pipelines=("*",), limits={"distinct_queries_per_day": 5}),
        }
    )
    tenants.save(path, file)
    return Keys(**texts)
