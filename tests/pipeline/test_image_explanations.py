"""Explanations of pictures: what each patch adds, at the door, is what the model itself says of the same pictures."""

import base64
import json
import math
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pytest
import skimage
from numpy.typing import NDArray

from deploy.pipelines.moderation.exporting import with_normalisation
from deploy.pipelines.moderation.prepare import original
from headrace.columns import Column
from headrace.pipeline import StepsStage, load
from headrace.steps import compile_steps
from tests.pipeline.test_explanations import PATH
from tests.system import ROOT, System

PICTURE = Path(skimage.__file__).parent / "data" / "astronaut.png"
# 224 pixels in 7 patches.
PATCH = 32


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


def asked(system: System, file: bytes) -> HTTPResponse:
    """The door's answer. Raises HTTPError."""
    row = {"image": base64.b64encode(file).decode()}
    body = json.dumps({"pipeline": "moderation", "rows": [row]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {system.key}"}
    request = urllib.request.Request(f"http://{system.endpoints['grpc']}{PATH}", body, headers)
    reply: HTTPResponse = urllib.request.urlopen(request, timeout=60)
    return reply


def test_what_each_patch_adds_is_what_the_model_says(system: System) -> None:
    file = PICTURE.read_bytes()
    with asked(system, file) as reply:
        [found] = json.load(reply)["rows"]
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
    with pytest.raises(HTTPError) as caught:
        asked(system, PICTURE.read_bytes()[:2000])
    told = json.load(caught.value)
    assert (caught.value.code, told["code"]) == (400, "invalid_argument")
    assert "MALFORMED_REQUEST" in json.dumps(told)
