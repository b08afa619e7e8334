"""Tensors ⇄ messages of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.columns import DType
from headrace.columns.column import of_oip
from headrace.columns.oip_tensors import CONTENTS, pack_bytes, unpack_bytes
from headrace.oip import open_inference_pb2 as oip
from headrace.repository import TensorSpec
from services.executor.backends.backend import Array, Tensors


class ProtocolError(Exception):
    """A reply is not what the protocol says."""


def infer_request(
    model: str, version: str, specs: Sequence[TensorSpec], inputs: Tensors
) -> oip.ModelInferRequest:
    """The request for all rows of `inputs`, raw."""
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    for spec in specs:
        array = inputs[spec.name]
        request.inputs.add(name=spec.name, datatype=spec.dtype.oip, shape=array.shape)
        request.raw_input_contents.append(_raw(spec.dtype, array))
    return request


def infer_outputs(reply: oip.ModelInferResponse, rows: int) -> dict[str, Array]:
    """The outputs of a reply by name. Raises ProtocolError for what does not fit together."""
    raw = reply.raw_output_contents
    if raw and len(raw) != len(reply.outputs):
        raise ProtocolError(f"{len(raw)} raw contents for {len(reply.outputs)} outputs")
    outputs = {}
    for i, tensor in enumerate(reply.outputs):
        dtype = of_oip(tensor.datatype)
        if dtype is None:
            raise ProtocolError(f"output {tensor.name} is a {tensor.datatype}, which no column can carry")
        try:
            array = _of_raw(dtype, raw[i]) if raw else _of_contents(dtype, tensor.contents)
            outputs[tensor.name] = array.reshape(tuple(tensor.shape))
        except ValueError as error:
            raise ProtocolError(f"output {tensor.name} does not fit its shape ({error})") from error
        if outputs[tensor.name].shape[:1] != (rows,):
            raise ProtocolError(f"output {tensor.name} of {rows} rows has shape {list(tensor.shape)}")
    return outputs


def spec_of(tensor: oip.ModelMetadataResponse.TensorMetadata) -> TensorSpec | str:
    """What a server says of a tensor; a text if no column could carry it."""
    dtype = of_oip(tensor.datatype)
    if dtype is None:
        return f"{tensor.name} is a {tensor.datatype}, which no column can carry"
    if not tensor.shape:
        return f"{tensor.name} has no batch dimension"
    return TensorSpec(tensor.name, dtype, tuple(tensor.shape[1:]))


def _raw(dtype: DType, array: Array) -> bytes:
    if dtype is not DType.BYTES:
        return np.ascontiguousarray(array, dtype.numpy).tobytes()
    return pack_bytes([v if isinstance(v, bytes) else str(v).encode() for v in array.ravel().tolist()])


def _of_raw(dtype: DType, content: bytes) -> Array:
    if dtype is not DType.BYTES:
        return np.frombuffer(content, dtype.numpy)
    items, size = unpack_bytes(content)
    if size != len(content):
        raise ValueError("an element is longer than what is there")
    return _objects(items)


def _of_contents(dtype: DType, contents: oip.InferTensorContents) -> Array:
    field = CONTENTS.get(dtype)
    if field is None:
        raise ValueError(f"{dtype.oip} travels raw only")
    values = getattr(contents, field)
    return _objects(list(values)) if dtype is DType.BYTES else np.asarray(values, dtype.numpy)


def _objects(items: list[bytes]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array
