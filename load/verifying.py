"""Are the answers right? Recomputed with no service between: stock Feast, the document's steps, the model's artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.oip import open_inference_pb2 as oip
from headrace.repository import Repository
from load.rows import Row

_TOLERANCE = 1e-5
MODELS = {"flights": "flights_light", "flights_heavy": "flights_heavy"}


def probability(reply: bytes) -> float:
    """Of a serialised ModelInferResponse of one row."""
    message = oip.ModelInferResponse.FromString(reply)
    names = [output.name for output in message.outputs]
    return float(np.frombuffer(message.raw_output_contents[names.index("probability")], "<f4")[0])


def recomputed(home: Path, feast: Path, pipeline: str, rows: Sequence[Row]) -> NDArray[np.float32]:
    """float32 (rows,): what the pipeline should answer."""
    # Feast, pandas and onnxruntime take seconds to import; only runs that verify pay for it.
    import onnxruntime  # type: ignore[import-untyped]  # ships no types
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
    repository, model = Repository(home / "models"), MODELS[pipeline]
    artifact = repository.read(model, max(repository.versions(model), key=int))
    session = onnxruntime.InferenceSession(artifact.content, providers=["CPUExecutionProvider"])
    [probabilities] = session.run(None, {"input": model_inputs(frame)})
    late: NDArray[np.float32] = probabilities[:, 1]
    return late


def verify(
    home: Path, feast: Path | None, pipeline: str, rows: Sequence[Row], replies: Mapping[int, bytes]
) -> str:
    """Compares replies (by position in `rows`) with what they should be; a line for the report.

    Raises SystemExit at a wrong answer: figures of wrong answers are worth nothing.
    """
    if not replies:
        return "no answers to verify"
    positions = sorted(replies)
    wanted = recomputed(home, feast or home / "feast", pipeline, [rows[i] for i in positions])
    got = np.array([probability(replies[i]) for i in positions], np.float32)
    worst = float(np.abs(got - wanted).max())
    if not worst <= _TOLERANCE:
        at = int(np.abs(got - wanted).argmax())
        raise SystemExit(
            f"a wrong answer: {rows[positions[at]]} got {got[at]}, recomputed {wanted[at]}; "
            f"{int((np.abs(got - wanted) > _TOLERANCE).sum())} of {len(got)} are off"
        )
    return (
        f"{len(positions)} answers verified against an offline recomputation, largest difference {worst:.1e}"
    )
