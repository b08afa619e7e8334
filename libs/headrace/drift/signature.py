"""Does a baseline fit the signature of the model that it is to describe?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from headrace.columns import DType
from headrace.drift.baseline import Baseline, BaselineError, NumberBaseline, Role
from headrace.repository import TensorSpec

# A tensor with more elements (a picture) is not described element by element, so its columns may be absent.
MOST_ELEMENTS = 256


def check_fits(baseline: Baseline, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raises BaselineError, which names the column that does not fit, or is missing."""
    tensors: dict[str, tuple[TensorSpec, Role]] = {t.name: (t, "output") for t in outputs}
    tensors |= {t.name: (t, "input") for t in inputs}
    for name, columns in baseline.tensors.items():
        _check_tensor(baseline, name, columns, tensors.get(name))
    elements = {column: of for of in tensors.values() for column in _columns(baseline, of[0])}
    for name in baseline.columns:
        _check_column(baseline, name, elements)
    for name, (tensor, role) in elements.items():
        small = math.prod(tensor.row_shape) <= MOST_ELEMENTS
        if role == "input" and small and name not in baseline.columns:
            problem = f"it is missing; the model's input is {tensor}"
            raise BaselineError(name, problem, "add it to the data that the baseline is made from")


def _check_tensor(
    baseline: Baseline, name: str, columns: Sequence[str], found: tuple[TensorSpec, Role] | None
) -> None:
    first = columns[0] if columns else ""
    if found is None:
        raise BaselineError(
            first, f"the model has no tensor {name!r} for it to be in", "name one of its inputs or outputs"
        )
    size = math.prod(found[0].row_shape)
    if len(columns) != size:
        # The first column too many, or the last one that is there.
        column = columns[size] if len(columns) > size else (columns[-1] if columns else "")
        problem = f"the tensor {found[0]} has {size} elements, {len(columns)} columns are named for it"
        raise BaselineError(column, problem, "name one column for each element")
    for column in columns:
        if column not in baseline.columns:
            raise BaselineError(
                column, f"the tensor {name!r} names it, and it is not there", "add it to the data"
            )


def _check_column(baseline: Baseline, name: str, elements: Mapping[str, tuple[TensorSpec, Role]]) -> None:
    about, element = baseline.columns[name], elements.get(name)
    if about.role == "pipeline":
        return
    if element is None:
        there = ", ".join(sorted({str(t) for t, role in elements.values() if role == about.role})) or "none"
        problem = f"the model has no such {about.role} (it has: {there})"
        raise BaselineError(name, problem, "leave it out, or say that it is a column of the pipeline")
    tensor, role = element
    if role != about.role:
        raise BaselineError(name, f"it is an {role} of the model, not an {about.role}", "correct its role")
    is_number, wants_number = isinstance(about, NumberBaseline), tensor.dtype is not DType.BYTES
    if is_number != wants_number:
        problem = f"it holds {'numbers' if is_number else 'texts'}, the model has {tensor}"
        raise BaselineError(name, problem, "make the baseline from the data that the model gets")


def _columns(baseline: Baseline, spec: TensorSpec) -> Iterator[str]:
    """The columns of a tensor's elements."""
    named = baseline.tensors.get(spec.name)
    if named is not None:
        yield from named
    elif not spec.row_shape:
        yield spec.name
    else:
        yield from element_names(spec.name, min(math.prod(spec.row_shape), MOST_ELEMENTS + 1))


def element_names(tensor: str, count: int) -> list[str]:
    """The columns of a tensor with so many elements in a row, unless a baseline names them."""
    return [f"{tensor}[{i}]" for i in range(count)]
