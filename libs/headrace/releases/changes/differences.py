"""What one release changes of another, for people who are to say yes to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.releases.document import Release

# Who, when, why and after what: not what is live.
_ABOUT = ("number", "parent", "author", "reason", "at", "applied", "restores")
_ABSENT = "—"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that changes. `before`, `after`: the values as text; "—": there is none."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} → {self.after}"


def same_content(one: Release, other: Release) -> bool:
    """Whether two releases make the same live."""
    return not differences(one, other)


def differences(before: Release | None, after: Release) -> list[Difference]:
    """Each key whose value changes, in the order of the document. `before` None: everything is new. If `after` follows a release
    that can't be read, that it does is a change, too."""
    old, new = _flat(before), _flat(after)
    if before is not None and after.parent > before.number:
        old["(release)"] = f"{after.parent} can't be read"
    order = {key: i for i, key in enumerate(Release.model_fields)}
    keys = sorted(old.keys() | new.keys(), key=lambda key: (order.get(key.split(".")[0], 99), key))
    return [
        Difference(key, _text(key, old.get(key)), _text(key, new.get(key)))
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _flat(release: Release | None) -> dict[str, Any]:
    if release is None:
        return {}
    # Defaults are left out where nothing was said, so that a first release is short.
    values = release.model_dump(mode="json", exclude_none=True)
    return dict(
        _leaves("", {k: v for k, v in values.items() if k not in _ABOUT and v not in ({}, [], False)})
    )


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            yield from _leaves(f"{key}[{item.get('name', i)}]", item)
    else:
        yield key, value


def _text(key: str, value: Any) -> str:
    if value is None:
        return _ABSENT
    if key.endswith(".revision") and isinstance(value, str):
        return f"{value[:12]}…"
    if key.startswith("assign.weights."):
        return f"{100 * float(value):g} %"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
