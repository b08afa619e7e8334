"""Forms: what the ModelInfer requests of one client have in common, so that it is read and checked once.

Two requests of a client differ in two fields of the protobuf message: 3 (the id) and 7 (the raw contents). All other bytes are
their form: the pipeline, parameters, names, types and shapes of the inputs, wanted outputs. The first request of a form is read
in the usual way, and the form is learned from it; later ones are recognized by their bytes, and need no parsing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from headrace.columns import Column, DType, Ragged, Rows
from headrace.columns.oip_tensors import LENGTH, unpack_bytes
from headrace.hop.errors import Fault
from headrace.oip import open_inference_pb2 as pb
from services.ingress.documents.catalog import Catalog, Entry, Input
from services.ingress.oip.parameters import parameters, read_version, wanted_outputs
from services.ingress.oip.request import row_count
from services.ingress.request_context import RequestContext

# Tags of fields of ModelInferRequest, all length-delimited: number << 3 | 2.
_MODEL, _VERSION, _ID, _RAW = 0x0A, 0x12, 0x1A, 0x3A
_PREFIX = LENGTH.size
# A length of one byte.
_SHORT = 0x80
# How raw contents of one short string begin, with their tag and length, and the size of the string; the bytes of that beginning.
_ONE_STRING = {bytes((_RAW, _PREFIX + n)) + LENGTH.pack(n): n for n in range(_SHORT - _PREFIX)}
_BEFORE = 2 + _PREFIX
# A request of more rows costs little per row in the usual way, and its rows are read in pieces.
_MOST_ROWS = 32
# What is kept: bytes of one form, forms of one tenant, tenants. A tenant who sends more forms is served in the usual way.
_MOST_BYTES, _MOST_FORMS, _MOST_TENANTS = 4096, 32, 1000
# A tenant whose forms are too many starts anew after this time: clients are updated, documents change.
_ANEW_S = 30.0


class Lane:
    """Requests that can be one batch: of one entry and version of a pipeline, with the same inputs in the same order."""

    __slots__ = ("_plan", "entry", "header", "regulated")

    def __init__(self, entry: Entry, version: int, inputs: Sequence[Input], *, regulated: bool) -> None:
        self.entry = entry
        self.header = entry.pipeline.name, version or entry.pipeline.version
        self.regulated = regulated
        # Of each input: name, type, shape of a row, elements of a row, numpy's type (None: byte strings).
        self._plan = [
            (f.name, f.dtype, f.row_shape, i.row_size, None if f.dtype is DType.BYTES else f.dtype.numpy)
            for i in inputs
            for f in (i.field,)
        ]

    def columns(self, requests: Sequence[FormedRequest]) -> dict[str, Column]:
        """The columns of the requests' rows, one request after the other."""
        found: dict[str, Column] = {}
        single = max([request.form.rows for request in requests]) == 1
        raws_of = zip(*[request.raws for request in requests], strict=True)
        for (name, dtype, row_shape, size, numpy), raws in zip(self._plan, raws_of, strict=True):
            if numpy is None:
                values: Any = Ragged.of(raws if single and size == 1 else _strings(raws, requests, size))
            else:
                values = np.frombuffer(b"".join(raws), numpy)
                if row_shape:
                    values = values.reshape(-1, *row_shape)
            found[name] = Column(name, dtype, values, row_shape)
        return found


def _strings(raws: Sequence[bytes], requests: Sequence[FormedRequest], row_size: int) -> list[bytes]:
    found: list[bytes] = []
    for raw, request in zip(raws, requests, strict=True):
        found += [raw] if request.form.rows * row_size == 1 else unpack_bytes(raw)[0]
    return found


# Finds the raw contents of some inputs of fixed sizes, one after the other; or how many byte strings each of some inputs has.
Part: TypeAlias = tuple[Callable[[bytes, int], re.Match[bytes] | None] | None, Sequence[int]]


@dataclass(slots=True, eq=False)
class Form:
    """One form. `rest`: the bytes between the id and the raw contents, which `parts` cut. `version` 0: the current one.
    `timeout_s`: inf if the request names none."""

    rest: bytes
    entry: Entry
    version: int
    rows: int
    parts: Sequence[Part]
    # `_ONE_STRING` if no input has several byte strings, else empty.
    one_string: Mapping[bytes, int]
    outputs: list[str]
    priority: int
    timeout_s: float
    # By whether the tenant is regulated.
    lanes: Mapping[bool, Lane]
    # Replies without their ids and values, by the decision and whatever else they depend on.
    heads: dict[Hashable, bytes] = field(default_factory=dict)

    def split(self, message: bytes, at: int) -> list[bytes] | None:
        """The raw contents at `at`, or the one string in each; None if they do not fit, or anything follows them."""
        raws: list[bytes] = []
        size_of = self.one_string.get
        for match, strings in self.parts:
            if match is not None:
                found = match(message, at)
                if found is None:
                    return None
                raws += found.groups()
                at = found.end()
            for elements in strings:
                start = at + _BEFORE
                size = size_of(message[at:start])
                if size is None:
                    if message[at] != _RAW:
                        return None
                    size, start = _long(message, at + 1)
                    if not _fits(message[start : start + size], elements):
                        return None
                    if elements == 1:
                        size, start = size - _PREFIX, start + _PREFIX
                at = start + size
                raws.append(message[start:at])
        return raws if at == len(message) else None


def _parts(inputs: Sequence[Input], rows: int) -> list[Part]:
    parts: list[Part] = []
    for strings, some in groupby(inputs, lambda one: one.field.dtype is DType.BYTES):
        if strings:
            parts.append((None, [rows * one.row_size for one in some]))
        else:
            parts.append((re.compile(b"".join([_fixed(one, rows) for one in some]), re.DOTALL).match, ()))
    return parts


def _fixed(one: Input, rows: int) -> bytes:
    """A regular expression of the raw contents of an input that has always the same size, with its tag and length."""
    width, value = rows * one.row_bytes, b"[\0\1]" if one.field.dtype is DType.BOOL else b"."
    return b"%b(%b{%d})" % (re.escape(bytes((_RAW,)) + varint(width)), value, width)


def _fits(raw: bytes, elements: int) -> bool:
    items, size = unpack_bytes(raw, elements)
    return size == len(raw) and len(items) == elements


def _long(message: bytes, at: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends. Raises IndexError if it is cut off, or longer than that of any message's size."""
    size = 0
    for shift in range(0, 35, 7):
        byte = message[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < _SHORT:
            return size, at
    raise IndexError


@functools.lru_cache(maxsize=1024)
def varint(number: int) -> bytes:
    """A number as protobuf writes it, for example in front of a field's bytes."""
    if number < _SHORT:
        return bytes((number,))
    found = bytearray()
    while number >= _SHORT:
        found.append(number & 0x7F | _SHORT)
        number >>= 7
    found.append(number)
    return bytes(found)


class FormedRequest:
    """A request of a known form: what the coalescer keeps waiting. `raws`: as `Form.split` gives them."""

    context: RequestContext
    lane: Lane
    # As `batching.codec.ItemDescription`, which has the deadline and the priority of its rows.
    description: tuple[Lane, str, int, int, float, int]
    # As `Rows` has each of its rows.
    row: tuple[str, str, int, float, str]
    # Of the first in a group: how many are in it, and their rows. Only what was sent last counts.
    shared: tuple[int, Rows] | None = None
    # When it was handed to the coalescer, monotonic seconds; why it is refused, if its values are not allowed.
    sent = 0.0
    fault: Fault | None = None

    def __init__(self, form: Form, request_id: str, raws: Sequence[bytes], message: bytes) -> None:
        self.form = form
        self.id = request_id
        self.raws = raws
        self.message = message

    def parsed(self) -> pb.ModelInferRequest:
        """The request as a message, for the usual way."""
        return pb.ModelInferRequest.FromString(self.message)


class Forms:
    """The forms of each tenant. `clock`: monotonic seconds."""

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._tenants: dict[str, _Known] = {}
        self._lanes: dict[tuple[int, int, tuple[str, ...], bool], Lane] = {}

    def find(self, message: bytes, tenant: str) -> FormedRequest | None:
        """The request, if its form is known and its contents fit it; else it is to be read in the usual way."""
        known = self._tenants.get(tenant)
        if known is None:
            return None
        try:
            at = 2 + message[1]
            if message[at] == _VERSION:
                at += 2 + message[at + 1]
            forms = known.forms.get(message[:at])
            if forms is None:
                return None
            request_id = ""
            if message[at] == _ID:
                size = message[at + 1]
                if size >= _SHORT:
                    return None
                at += 2 + size
                request_id = message[at - size : at].decode("ascii")
            for form in forms:
                if message.startswith(form.rest, at):
                    raws = form.split(message, at + len(form.rest))
                    return None if raws is None else FormedRequest(form, request_id, raws, message)
        except (IndexError, UnicodeDecodeError):
            pass
        return None

    def learn(self, message: bytes, request: pb.ModelInferRequest, tenant: str) -> None:
        """Remembers the form of a request that was read in the usual way."""
        known = self._tenants.get(tenant)
        if known is None:
            if len(self._tenants) >= _MOST_TENANTS:
                self._tenants.clear()
            known = self._tenants[tenant] = _Known(self._clock())
        if known.count >= _MOST_FORMS:
            if self._clock() < known.since + _ANEW_S:
                return
            known = self._tenants[tenant] = _Known(self._clock())
        found = _cut(message)
        if found is None:
            return
        prefix, rest = found
        try:
            form = self._form(rest, request)
        except Fault:
            return  # the usual way says what is wrong
        if form is None or form.split(message, len(message) - _raw_size(request)) is None:
            return
        forms = known.forms.get(prefix, [])
        # One of an entry that was replaced.
        kept = [f for f in forms if f.rest != rest]
        known.count += len(kept) + 1 - len(forms)
        known.forms[prefix] = [form, *kept]

    def _form(self, rest: bytes, request: pb.ModelInferRequest) -> Form | None:
        entry = self._catalog.known(request.model_name)
        if entry is None or len(request.raw_input_contents) != len(request.inputs):
            return None
        inputs = [entry.inputs.get(tensor.name) for tensor in request.inputs]
        names = tuple([tensor.name for tensor in request.inputs])
        if None in inputs or len(set(names)) < len(names):
            return None
        wanted = [i for i in inputs if i is not None]
        counts = set()
        for tensor, one in zip(request.inputs, wanted, strict=True):
            if tensor.HasField("contents") or tensor.datatype != one.datatype:
                return None
            counts.add(row_count(tensor, one))
        rows = counts.pop() if len(counts) == 1 else 0
        if not 0 < rows <= _MOST_ROWS:
            return None
        version = read_version(request.model_version)
        priority, timeout_s = parameters(request)
        parts = _parts(wanted, rows)
        return Form(
            rest,
            entry,
            version,
            rows,
            parts,
            {} if any(elements != 1 for _, strings in parts for elements in strings) else _ONE_STRING,
            wanted_outputs(request, entry),
            priority,
            timeout_s,
            {regulated: self._lane(entry, version, names, wanted, regulated) for regulated in (False, True)},
        )

    def _lane(
        self, entry: Entry, version: int, names: tuple[str, ...], inputs: Sequence[Input], regulated: bool
    ) -> Lane:
        key = id(entry), version, names, regulated
        lane = self._lanes.get(key)
        if lane is None or lane.entry is not entry:
            if len(self._lanes) >= _MOST_TENANTS:
                self._lanes.clear()
            lane = self._lanes[key] = Lane(entry, version, inputs, regulated=regulated)
        return lane


class _Known:
    """The forms of one tenant by the bytes before the id."""

    def __init__(self, now: float) -> None:
        self.forms: dict[bytes, list[Form]] = {}
        self.count = 0
        self.since = now


def _cut(message: bytes) -> tuple[bytes, bytes] | None:
    """The bytes before the id, and those between it and the raw contents; None if the fields stand in another order."""
    prefix_end = rest_start = at = 0
    last = 0
    try:
        while at < len(message) and message[at] != _RAW:
            tag = message[at]
            size, end = _long(message, at + 1)
            once = tag <= _ID
            if tag & 7 != 2 or not last <= tag < _RAW or (once and (tag == last or size >= _SHORT)):
                return None
            at, last = end + size, tag
            if tag < _ID:
                prefix_end = at
            if tag <= _ID:
                rest_start = at
    except IndexError:
        return None
    if message[:1] != b"\x0a" or at - rest_start > _MOST_BYTES:
        return None
    return message[:prefix_end], message[rest_start:at]


def _raw_size(request: pb.ModelInferRequest) -> int:
    """Bytes of the raw contents with their tags and lengths."""
    return sum([1 + len(varint(len(raw))) + len(raw) for raw in request.raw_input_contents])
