"""The options of one step, read with their types. An error names the path of the wrong option in the specification."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from headrace.columns import DType
from headrace.steps.errors import SpecError

Targets: TypeAlias = tuple[tuple[str, str], ...]
"""(read, written) names of columns."""

_REQUIRED: Any = object()
_TYPES: Mapping[str, DType] = {"string": DType.BYTES, **{d.name.lower(): d for d in DType}}


class Options:
    """A mapping of options under `path`. After a step has read its options, `done()` refuses those that it did not read."""

    def __init__(self, path: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise SpecError(path, "should be a mapping of options")
        self.path = path
        self.values: Mapping[str, Any] = values
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def error(self, key: str, message: str) -> SpecError:
        return SpecError(f"{self.path}.{key}", message)

    def raw(self, key: str, default: Any = _REQUIRED) -> Any:
        """The option's value, unchecked. Raises SpecError if it is absent and has no default."""
        self._read.add(key)
        if key in self.values:
            return self.values[key]
        if default is _REQUIRED:
            raise SpecError(self.path, f"needs {key!r}")
        return default

    def several(self, key: str, what: str) -> Sequence[Any]:
        """A list, not empty, of values that are not checked. `what`: they should be, for the message."""
        values = self.raw(key)
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise self.error(key, f"should be a list of {what}")
        return values

    def text(self, key: str, default: str = _REQUIRED) -> str:
        value = self.raw(key, default)
        if not isinstance(value, str):
            raise self.error(key, "should be text")
        return value

    def name(self, key: str, default: str = _REQUIRED) -> str:
        return _name(self.text(key, default), f"{self.path}.{key}")

    def names(self, key: str) -> tuple[str, ...]:
        path = f"{self.path}.{key}"
        names = tuple(_name(v, f"{path}[{i}]") for i, v in enumerate(self.several(key, "column names")))
        if len(set(names)) != len(names):
            raise SpecError(path, "names a column twice")
        return names

    def number(self, key: str, default: float = _REQUIRED) -> float:
        return as_number(self.raw(key, default), f"{self.path}.{key}")

    def numbers(self, key: str) -> tuple[float, ...]:
        found = enumerate(self.several(key, "numbers"))
        return tuple(as_number(v, f"{self.path}.{key}[{i}]") for i, v in found)

    def integer(self, key: str, default: int = _REQUIRED, *, low: int, high: int = 1 << 31) -> int:
        value = self.raw(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"should be an integer from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.raw(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "should be true or false")
        return value

    def choice(self, key: str, choices: Iterable[str], default: str = _REQUIRED) -> str:
        value = self.raw(key, default)
        if value not in (allowed := list(choices)):
            raise self.error(key, f"should be one of {', '.join(allowed)}")
        return str(value)

    def dtype(self, key: str) -> DType:
        return _TYPES[self.choice(key, _TYPES)]

    def section(self, key: str) -> Options:
        inner = Options(f"{self.path}.{key}", self.raw(key))
        if not inner.values:
            raise self.error(key, "should not be empty")
        return inner

    def labels(self, key: str) -> tuple[bytes, ...]:
        values = self.several(key, "texts")
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self.error(f"{key}[{i}]", "should be text")
        return tuple(v.encode() for v in values)

    def target(self) -> tuple[str, str]:
        """(read, written): `column` and `into`; without `into`, the column is replaced."""
        column = self.name("column")
        return column, self.name("into", column)

    def new_target(self) -> tuple[str, str]:
        """(read, written): `column` and `into`, both required."""
        return self.name("column"), self.name("into")

    def targets(self) -> Targets:
        """(read, written) names of a step that changes columns one by one.

        Either `column` with an optional `into`, or `columns`, each replaced.
        """
        if "columns" in self:
            return tuple((n, n) for n in self.names("columns"))
        return (self.target(),)

    def done(self) -> None:
        """Raises SpecError for an option that was not read."""
        for key in self.values:
            if key not in self._read:
                raise self.error(key, f"is no option here; there are {', '.join(sorted(self._read))}")


def as_number(value: object, path: str) -> float:
    """`value` as a finite float. Raises SpecError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpecError(path, "should be a finite number")
    return float(value)


def _name(value: object, path: str) -> str:
    if not isinstance(value, str) or not value or value.startswith("@"):
        raise SpecError(path, "should be the name of a column (not empty, not beginning with @)")
    return value
