"""OIP's REST form ⇄ its messages: JSON tensors, and the binary-data extension (raw tensors after the JSON).

Every tensor becomes raw contents, so that one translation (`oip/request.py`) checks all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from headrace.columns import DType
from headrace.columns.column import of_oip
from headrace.columns.oip_tensors import pack_bytes, unpack_bytes
from headrace.hop.errors import Fault, Reason
from headrace.oip import open_inference_pb2 as pb
from headrace.pipeline.types import ROUNDED, whole_number
from services.ingress.faults import invalid, malformed
from services.ingress.protocols.body import json_text

_MAX_RANK = 16
_WIDE = frozenset({DType.INT64, DType.UINT64})
# How many numbers become an array in one step.
_PART = 65_536


def read_request(
    body: bytes, header_length: int | None, model: str, version: str, max_values: int
) -> tuple[pb.ModelInferRequest, bool]:
    """The request in a body, and whether its caller prefers binary outputs.

    `header_length`: bytes of JSON at the front, if binary data follows. Raises Fault INVALID_ARGUMENT, RESOURCE_EXHAUSTED
    for more than `max_values` values of JSON.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise malformed(f"Inference-Header-Content-Length is {header_length}, the body has {len(body)} bytes")
    document = read_object(body if header_length is None else body[:header_length], max_values)
    binary = memoryview(body)[header_length if header_length is not None else len(body) :]
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=_text(document, "id"))
    parameters = _mapping(document, "parameters")
    _copy_parameters(parameters, request.parameters)
    at = 0
    for entry in _entries(document, "inputs"):
        at += _add_input(request, entry, binary[at:])
    if at != len(binary):
        raise malformed(f"{len(binary) - at} bytes of binary data belong to no input")
    for entry in _entries(document, "outputs"):
        _copy_parameters(
            _mapping(entry, "parameters"), request.outputs.add(name=_text(entry, "name")).parameters
        )
    return request, parameters.get("binary_data_output") is True


def read_object(text: bytes, max_values: int) -> dict[str, Any]:
    """A JSON object. Raises Fault INVALID_ARGUMENT, RESOURCE_EXHAUSTED."""
    document = json_text.read(text, max_values)
    if not isinstance(document, dict):
        raise malformed("the body is not a JSON object")
    return document


def _add_input(request: pb.ModelInferRequest, entry: dict[str, Any], binary: memoryview) -> int:
    """Adds one input. Returns the number of bytes of binary data that it used."""
    name, datatype, shape = _text(entry, "name"), _text(entry, "datatype"), entry.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise malformed(f"input {name[:80]}: `shape` is not a list of sizes", name)
    request.inputs.add(name=name, datatype=datatype, shape=shape)
    size = _mapping(entry, "parameters").get("binary_data_size")
    if size is not None:
        if "data" in entry:
            raise malformed(f"input {name[:80]} has both `data` and `binary_data_size`", name)
        if type(size) is not int or not 0 <= size <= len(binary):
            shown = size if type(size) is int else type(size).__name__
            raise malformed(f"input {name[:80]}: binary_data_size {shown} does not fit the body", name)
        request.raw_input_contents.append(bytes(binary[:size]))
        return size
    if not isinstance(entry.get("data"), list):
        raise malformed(f"input {name[:80]} has no `data`", name)
    request.raw_input_contents.append(_raw(name, datatype, entry["data"]))
    return 0


def _raw(name: str, datatype: str, data: list[Any]) -> bytes:
    """Raw contents of JSON data, nested or flat."""
    dtype = of_oip(datatype)
    if dtype is None or dtype is DType.FLOAT16:
        raise malformed(f"input {name[:80]}: datatype {datatype[:20]!r} has no JSON form", name)
    flat = _flat(name, data)
    if dtype is DType.BYTES:
        if not all(isinstance(item, str) for item in flat):
            raise _mistyped(name, datatype)
        return pack_bytes([item.encode() for item in flat])
    fits: tuple[type, ...] = (bool,) if dtype is DType.BOOL else (int, float) if dtype.is_float else (int,)
    if dtype in _WIDE and str in map(type, flat):
        flat = [_number(item) if isinstance(item, str) else item for item in flat]
    if not all(type(item) in fits for item in flat):
        raise _mistyped(name, datatype)
    try:
        # In parts, because other threads can't run while a part is converted.
        parts = (flat[start : start + _PART] for start in range(0, len(flat), _PART))
        return b"".join(np.array(part, dtype.numpy).tobytes() for part in parts)
    except OverflowError:
        raise invalid(
            Reason.REASON_INPUT_RANGE,
            f"input {name[:80]} has a number that does not fit {datatype}",
            input=name[:80],
        ) from None


def _number(text: str) -> int | str:
    """The integer that text stands for; other text stays as it is, and is refused."""
    number = whole_number(text)
    return text if number is None else number


def _flat(name: str, data: list[Any]) -> list[Any]:
    for _ in range(_MAX_RANK):
        if not any(isinstance(item, list) for item in data):
            return data
        if not all(isinstance(item, list) for item in data):
            break
        data = [inner for item in data for inner in item]
    raise malformed(f"input {name[:80]}: `data` mixes lists and values", name)


def write_response(
    reply: pb.ModelInferResponse, is_binary: Callable[[str], bool]
) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON part if binary data follows."""
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for tensor, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        shown: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if is_binary(tensor.name) or tensor.datatype == "FP16":
            shown["parameters"] = {"binary_data_size": len(raw)}
            binary.append(raw)
        else:
            shown["data"] = _data(tensor.datatype, raw)
        outputs.append(shown)
    document: dict[str, Any] = {
        "model_name": reply.model_name,
        "model_version": reply.model_version,
        "id": reply.id,
        "parameters": {
            # In one order, so that a repeated call with an idempotency key gets the same text.
            k: _exact(getattr(reply.parameters[k], reply.parameters[k].WhichOneof("parameter_choice") or ""))
            for k in sorted(reply.parameters)
        },
        "outputs": outputs,
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    return (text + b"".join(binary), len(text)) if binary else (text, None)


def _data(datatype: str, raw: bytes) -> list[Any]:
    dtype = of_oip(datatype)
    if dtype is DType.BYTES:
        items, _ = unpack_bytes(raw)
        return [item.decode(errors="replace") for item in items]
    assert dtype is not None, "our own outputs have types that we know"
    values: list[Any] = np.frombuffer(raw, dtype.numpy).tolist()
    if dtype in _WIDE:
        return [_exact(v) for v in values]
    # JSON has neither NaN nor infinities.
    return [v if v - v == 0 else None for v in values] if dtype.is_float else values


def _exact(value: Any) -> Any:
    """An integer that readers of JSON may round becomes text."""
    return value if not isinstance(value, int) or -ROUNDED < value < ROUNDED else str(value)


def _copy_parameters(source: dict[str, Any], target: Any) -> None:
    for key, value in source.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
            target[key].int64_param = value
        elif isinstance(value, int) and 0 < value < 1 << 64:
            target[key].uint64_param = value
        elif isinstance(value, int):
            raise malformed(f"parameter {key[:80]!r} does not fit 64 bits", key)
        elif isinstance(value, float):
            target[key].double_param = value
        elif isinstance(value, str):
            target[key].string_param = value


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise malformed(f"`{key}` is not text", key)
    return value


def _mapping(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise malformed(f"`{key}` is not an object", key)
    return value


def _entries(document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise malformed(f"`{key}` is not a list of objects", key)
    return value


def _mistyped(name: str, datatype: str) -> Fault:
    return invalid(
        Reason.REASON_INPUT_DTYPE,
        f"input {name[:80]} has data that is not {datatype}",
        input=name[:80],
        datatype=datatype,
    )
