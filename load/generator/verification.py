"""Whether the answers are right: recomputed without any service, by stock Feast, the document's steps, the model file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.oip import open_inference_pb2 as oip
from headrace.repository import Repository
from load.generator.flight_requests import Row

_TOLERANCE = 1e-5
MODELS = {"flights": "flights_light", "flights_heavy": "flights_heavy"}


def probability(reply: bytes) -> NDArray[np.float32]:
    """float32 (rows,): of a serialised ModelInferResponse."""
    message = oip.ModelInferResponse.FromString(reply)
    names = [output.name for output in message.outputs]
    return np.frombuffer(message.raw_output_contents[names.index("probability")], "<f4")


def recomputed(home: Path, feast: Path, pipeline: str, rows: Sequence[Row]) -> NDArray[np.float32]:
    """float32 (rows,): what the pipeline should answer."""
    # Feast, pandas and onnxruntime take seconds to import; only runs that verify pay for it.
    import pandas as pd
    from feast import FeatureStore

    from deploy.pipelines.flights.feature_repo import FOREVER, KEYS, SERVICE, VIEWS
    from deploy.pipelines.flights.transforming import model_inputs

    store = FeatureStore(repo_path=str(feast))
    entities = [{key: row[key] for key in KEYS} for row in rows]
    service = store.get_feature_service(SERVICE)
    found = store.get_online_features(service, entities).to_dict(include_event_timestamps=True)
    now = datetime.now(UTC).timestamp()
    frame = pd.DataFrame(list(rows))
    for _, ttl, features in VIEWS.values():
        for name in features:
            ages = [now - at for at in found[f"{name}__ts"]]
            # Feast does not enforce times to live when it reads online; the features service does.
            valid = [ttl == FOREVER or age <= ttl.total_seconds() for age in ages]
            values = [
                math.nan if v is None or not ok else v for v, ok in zip(found[name], valid, strict=True)
            ]
            frame[name] = np.array(values, np.float64)
    return probabilities(home, MODELS[pipeline], model_inputs(frame))


def probabilities(home: Path, model: str, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (rows,): the second probability that the newest version of a model gives for (rows, 24)."""
    import onnxruntime  # type: ignore[import-untyped]  # ships no types

    repository = Repository(home / "models")
    artifact = repository.read(model, max(repository.versions(model), key=int))
    session = onnxruntime.InferenceSession(artifact.content, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"input": inputs})
    second: NDArray[np.float32] = found[:, 1]
    return second


def verify(
    home: Path,
    feast: Path | None,
    pipeline: str,
    rows: Sequence[Row],
    replies: Mapping[int, bytes],
    each: int = 1,
) -> str:
    """Compares replies with what they should be; a line for the report. Reply i is that to rows `i · each` and on.

    Raises SystemExit at a wrong answer: figures of wrong answers are worth nothing.
    """
    if not replies:
        return "no answers to verify"
    positions = sorted(replies)
    asked = [row for i in positions for row in rows[i * each : (i + 1) * each]]
    wanted = recomputed(home, feast or home / "feast", pipeline, asked)
    got = np.concatenate([probability(replies[i]) for i in positions])
    if len(got) != len(asked):
        raise SystemExit(f"wrong answers: {len(got)} rows for {len(asked)}")
    return _compared(wanted, got, asked)


def verify_model(home: Path, model: str, inputs: NDArray[np.float32], replies: Mapping[int, bytes]) -> str:
    """The same for a model alone, whoever serves it; replies by position in `inputs`."""
    if not replies:
        return "no answers to verify"
    positions = sorted(replies)
    got = np.array([_second(replies[i]) for i in positions], np.float32)
    return _compared(probabilities(home, model, inputs[positions]), got, positions)


def _second(reply: bytes) -> float:
    message = oip.ModelInferResponse.FromString(reply)
    if message.raw_output_contents:
        return float(np.frombuffer(message.raw_output_contents[0], "<f4")[1])
    return float(message.outputs[0].contents.fp32_contents[1])


def _compared(wanted: NDArray[np.float32], got: NDArray[np.float32], asked: Sequence[object]) -> str:
    worst = float(np.abs(got - wanted).max())
    if not worst <= _TOLERANCE:
        at = int(np.abs(got - wanted).argmax())
        raise SystemExit(
            f"a wrong answer: {asked[at]} got {got[at]}, recomputed {wanted[at]}; "
            f"{int((np.abs(got - wanted) > _TOLERANCE).sum())} of {len(got)} are off"
        )
    return f"{len(got)} answers verified against an offline recomputation, largest difference {worst:.1e}"
