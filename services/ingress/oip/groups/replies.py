"""The messages that answer a group: the values of each request, behind a head that requests share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from headrace.columns import Column, Ragged
from headrace.columns.oip_tensors import pack_bytes
from headrace.hop.errors import Fault
from headrace.pipeline import MODELS_USED, Decision
from services.ingress.inference import InferenceResult, InferenceShare, first_fault
from services.ingress.oip.groups.form import Form, FormedRequest, varint
from services.ingress.oip.response import CACHED, SOURCE, write

# Tags of fields of ModelInferResponse: the id, and the values of an output.
_ID, _VALUES = b"\x1a", b"\x32"
# Heads of one form; there are more only while releases change.
_MOST_HEADS = 64


def replies(
    whole: InferenceResult, requests: Sequence[FormedRequest], shares: Sequence[InferenceShare]
) -> list[bytes | Fault]:
    """The message of each request, or its fault. `shares`: the rows of each in `whole`."""
    errors, heads = whole.batch.errors, _Heads(whole)
    outputs: dict[Form, Sequence[_Output] | Fault] = {}
    found: list[bytes | Fault] = []
    for request, share in zip(requests, shares, strict=True):
        form = request.form
        values = outputs.get(form)
        if values is None:
            values = outputs[form] = _outputs(whole, form)
        if errors and any(row in errors for row in range(share.start, share.stop)):
            found.append(first_fault(share.batch))
        elif isinstance(values, Fault):
            found.append(values.copy())
        elif (head := heads.of(form, share)) is None:
            found.append(write(share.result(), form.outputs, request.context.reply_id).SerializeToString())
        else:
            own = request.context.reply_id.encode()
            parts = [head, _ID, varint(len(own)), own]
            for value in values:
                parts += value(share.start, share.stop)
            found.append(b"".join(parts))
    return found


class _Heads:
    """The messages of a group without ids and values. Rows that differ in nothing that a head says have the same."""

    def __init__(self, whole: InferenceResult) -> None:
        self._whole = whole
        columns = whole.batch.columns
        # Answers that were kept have an age, which is in the head.
        self._each = CACHED in columns
        names = [name for name in columns if name.startswith(MODELS_USED)]
        if whole.fallbacks:
            names += ["@fallbacks", *[name for name in columns if name.startswith(SOURCE)]]
        self._names = tuple(names)
        self._marks = [columns[name].array.tolist() for name in names]
        self._alike = not self._marks and not whole.decided
        self._found: dict[Hashable, bytes] = {}

    def of(self, form: Form, share: InferenceShare) -> bytes | None:
        """None: it is to be written for this request alone."""
        if self._each:
            return None
        own = () if self._alike else self._own(share.start)
        if not self._alike and any(self._own(row) != own for row in range(share.start + 1, share.stop)):
            return None
        key = form, own
        head = self._found.get(key)
        if head is None:
            head = self._found[key] = self._cached(form, own, share)
        return head

    def _own(self, row: int) -> tuple[int, ...]:
        """What a row has of its own: its place among the decisions, and its marks."""
        decided = self._whole.decided
        return (decided[row] if decided else 0, *[mark[row] for mark in self._marks])

    def _cached(self, form: Form, own: tuple[int, ...], share: InferenceShare) -> bytes:
        """The head that the form has kept from earlier groups, or a new one."""
        whole = self._whole
        decision = _hashable(whole.decisions[own[0] if own else 0]) if whole.decisions else None
        revision = whole.entry.pipeline.revision
        key = decision, revision, tuple(whole.fallbacks), self._names, own[1:]
        head = form.heads.get(key)
        if head is None:
            if len(form.heads) >= _MOST_HEADS:
                form.heads.clear()
            message = write(share.result(), form.outputs, "")
            del message.raw_output_contents[:]
            head = form.heads[key] = message.SerializeToString()
        return head


def _hashable(decision: Decision) -> Hashable:
    d = decision
    return d.version, d.revision, d.route, tuple(d.models), d.release, d.rule, d.sticky


# The parts of a message that are the values of rows start…stop−1 of an output.
_Output = Callable[[int, int], Sequence[bytes]]


def _outputs(whole: InferenceResult, form: Form) -> Sequence[_Output] | Fault:
    try:
        return [_output(column, form.rows) for column in whole.outputs(form.outputs)]
    except Fault as fault:
        return fault


def _output(column: Column, rows: int) -> _Output:
    values = column.values
    if isinstance(values, Ragged):
        items, size = values.to_list(), column.row_size

        def strings(start: int, stop: int) -> Sequence[bytes]:
            data = pack_bytes(items[start * size : stop * size])
            return _VALUES, varint(len(data)), data

        return strings
    data, width = values.tobytes(), values.itemsize * column.row_size
    tag = _VALUES + varint(rows * width)
    return lambda start, stop: (tag, data[start * width : stop * width])
