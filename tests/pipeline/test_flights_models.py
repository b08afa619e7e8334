"""Preparing the flights pipeline: models that run anywhere, trained again when code changes that makes their inputs, and no
work that is not due."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
import pandas as pd
import prometheus_client  # noqa: F401 - before Feast, whose import changes where metrics live
import pytest

from deploy.pipelines.flights import baselines, training
from deploy.pipelines.flights.exporting import to_onnx
from deploy.pipelines.flights.prepare import REFRESH, ROOT, _models_hash, prepare
from deploy.pipelines.flights.transforming import ELEMENTS, model_inputs
from deploy.pipelines.preparation import alone, code_sha256
from headrace.columns import DType
from headrace.drift import check_fits
from headrace.repository import Repository, TensorSpec, Trust

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def test_the_exported_graph_is_the_trained_network_in_plain_operators() -> None:
    dice = np.random.default_rng(5)
    inputs = dice.normal(50, 20, (2_000, 24)).astype(np.float32)
    late = inputs[:, 3] + dice.normal(0, 5, 2_000) > 60
    data = training.Examples(inputs[:1_500], late[:1_500], inputs[1_500:], late[1_500:], {})
    trained = training.train(training.Recipe((32, 16), 20), data)
    content = to_onnx("small", trained)
    graph = onnx.load_from_string(content).graph
    assert {n.op_type for n in graph.node} == {"Sub", "Div", "Gemm", "Relu", "Softmax"}
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"input": data.judge})
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (500, 2)
    assert training.metrics(probabilities[:, 1], data.judge_late) == pytest.approx(trained.metrics, abs=2e-3)
    assert trained.metrics["auc"] > 0.8
    # The baseline's outputs are those of the model.
    assert baselines.probabilities(trained, data.judge) == pytest.approx(probabilities[:, 1], abs=1e-5)


def test_the_baseline_has_the_columns_of_the_document_and_fits_the_models() -> None:
    dice = np.random.default_rng(5)
    frame = pd.DataFrame({name: dice.integers(1, 5, 500) for name in ELEMENTS if not name.endswith("_code")})
    frame["plane_year"] = frame["plane_year"].where(dice.random(500) > 0.1).astype(float)
    frame = frame.assign(carrier="UA", origin="EWR", dest="SFO", tailnum="N1")
    late = dice.random(500) > 0.5
    inputs = model_inputs(frame)
    data = training.Examples(inputs, late, inputs, late, {"from": "May", "to": "June"}, frame)
    made = baselines.baseline(data, training.train(training.Recipe((8,), 1), data))

    check_fits(
        made, [TensorSpec("input", DType.FLOAT32, (24,))], [TensorSpec("probabilities", DType.FLOAT32, (2,))]
    )
    assert 20 < made.columns["plane_year"].nulls < 90, "missing values are counted before they are filled in"
    assert made.columns["probability"].role == "output"
    assert not made.columns["hour"].watched
    assert {"carrier", "tail_delay_mean"} <= {name for name, c in made.columns.items() if c.watched}


def stamp(home: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((home / "flights.json").read_text())
    return found


def test_preparing_does_what_is_due_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ROWS", 4_000)
    monkeypatch.setattr(training, "LEARN_FROM", pd.Timestamp("2013-10-15", tz="UTC"))
    steps: list[str] = []

    def run(now: datetime) -> list[str]:
        steps.clear()
        prepare(tmp_path, "", now, lambda step, _done, _total: steps.append(step.split(" (")[0]))
        return list(dict.fromkeys(steps))

    assert run(NOW)[-1] == "flights is prepared"
    assert "training models" in steps
    first = json.loads((tmp_path / "models" / "flights_light" / "1" / "metadata.json").read_text())
    # So few flights teach nothing; what counts is that later ones are the judges.
    assert {"auc", "brier", "calibration_error"} <= set(first["metrics"])
    assert first["trained_on"]["to"] < "2013-11-01"
    published = Repository(tmp_path / "models")
    assert {m: published.read(m, "1").metadata.inputs[0].row_shape for m in published.models()} == {
        "flights_heavy": (24,),
        "flights_light": (24,),
    }
    assert run(NOW + timedelta(minutes=5)) == ["flights is prepared"]
    (tmp_path / "flights.json").write_text(json.dumps({**stamp(tmp_path), "models": "other code"}))
    assert "training models" in run(NOW)
    # Other code that teaches the same makes no new version.
    signed = Repository(tmp_path / "models", trust=Trust((tmp_path / "models.pub",)))
    assert {m: signed.versions(m) for m in signed.models()} == {
        "flights_heavy": ["1"],
        "flights_light": ["1"],
    }
    assert signed.read("flights_light", "1").signer
    later = run(NOW + REFRESH)
    assert "filling the online store" in later
    assert "training models" not in later
    weather = pd.read_parquet(tmp_path / "data" / "weather.parquet")
    assert weather["event_timestamp"].max() == pd.Timestamp(NOW + REFRESH)
    lines = (tmp_path / "data" / "requests.jsonl").read_text().splitlines()
    assert len(lines) >= 2_000
    assert set(json.loads(lines[0])) == {
        "carrier", "origin", "dest", "tailnum", "month", "day_of_week", "hour", "minute",
    }  # fmt: skip


def test_a_second_preparation_waits_for_the_first(tmp_path: Path) -> None:
    told: list[str] = []
    order: list[str] = []
    with alone(tmp_path, lambda *_: None):
        second = threading.Thread(target=_second, args=(tmp_path, told, order))
        second.start()
        while not told:
            second.join(0.01)
        order.append("first")
    second.join()
    assert told == ["waiting for another preparation of this home"]
    assert order == ["first", "second"]


def _second(home: Path, told: list[str], order: list[str]) -> None:
    with alone(home, lambda step, _done, _total: told.append(step)):
        order.append("second")


def test_comments_and_layout_do_not_count_as_other_code(tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    digests = []
    for text in ('"""A."""\nx = 1  # one\n', '"""B."""\nx = (\n    1\n)\n', "x = 2\n"):
        file.write_text(text)
        digests.append(code_sha256([file]))
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_covers_the_code_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def record(files: list[Path], text: str = "") -> str:
        seen.extend(files)
        return text

    monkeypatch.setattr("deploy.pipelines.flights.prepare._hash", record)
    _models_hash()
    steps = ROOT / "libs/headrace/steps"
    assert {"frame.py", "builtin/categories.py", "builtin/images/decoder.py", "program/program.py"} <= {
        str(p.relative_to(steps)) for p in seen if p.is_relative_to(steps)
    }
