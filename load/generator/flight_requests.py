"""What the requests ask: distinct flights of a whole year, over all planes, routes and airports."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.oip import open_inference_pb2 as oip

COUNT = 50_000
_SEED = 7
Row = dict[str, Any]


def rows(home: Path, count: int = COUNT) -> list[Row]:
    """`count` different flights; made once and kept in the home's data."""
    kept = home / "data" / f"load_{count}.jsonl"
    if not kept.exists():
        # pandas takes a second to import, and is wanted once.
        from deploy.pipelines.flights import sources
        from deploy.pipelines.flights.sampling import FIELDS

        distinct = sources.load().flights[FIELDS].drop_duplicates()
        sample = distinct.sample(count, random_state=_SEED)
        partial = kept.with_suffix(".partial")
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in sample.to_dict("records")))
        partial.replace(kept)
    with kept.open() as lines:
        return [json.loads(line) for line in lines]


def rows_message(
    model: str, several: Sequence[Row], rename: Mapping[str, str] | None = None, name: str = ""
) -> bytes:
    """A serialised ModelInferRequest, as tritonclient and perf_analyzer write it: raw contents.

    `rename`: names of inputs that a peer calls otherwise; `name`: id of the request.
    """
    request = oip.ModelInferRequest(model_name=model, id=name)
    other = rename or {}
    for column, value in several[0].items():
        text = isinstance(value, str)
        request.inputs.add(
            name=other.get(column, column), datatype="BYTES" if text else "INT32", shape=[len(several)]
        )
        request.raw_input_contents.append(b"".join(_raw(row[column]) for row in several))
    return request.SerializeToString()


def _raw(value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<i", value)
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


def vectors() -> NDArray[np.float32]:
    """float32 (rows, 24): as many different inputs of the model alone."""
    return np.random.default_rng(_SEED).uniform(0, 100, (COUNT, 24)).astype("<f4")


def vector_message(model: str, vector: NDArray[np.float32], shape: Sequence[int]) -> bytes:
    """One of the model alone; `shape`: with the batch dimension in front."""
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[vector.tobytes()])
    request.inputs.add(name="input", datatype="FP32", shape=shape)
    return request.SerializeToString()
