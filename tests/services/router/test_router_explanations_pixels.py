"""An image is explained after its answer by its patches: decoded once, asked one by one, below every live call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headrace.columns import Batch, Column
from tests.services.router.router_leaves import batch_of
from tests.services.router.test_router_explanations import explain, running
from tests.services.waiting import until

# Four rows and six columns: each pixel is a patch.
PICTURE = """pipeline: scored
version: 1
deadline_ms: 5000
inputs:
  key: {type: string}
  x: {type: float32}
stages:
  - preprocessing: pixels
    steps: [decode_image: {column: key, into: input, size: [4, 6]}]
    outputs: {input: {type: uint8, shape: [4, 6, 3]}}
  - model: sum
    name: adder
    inputs: {image: input, weight: x}
    outputs: {total: {column: y, type: float64}}
explanations: {demanded: true}
outputs: [y]
"""
PIXELS = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)


class Leaves:
    """`decoded`, `asked`: rows of each call; `priorities` of those that the model got."""

    def __init__(self) -> None:
        self.decoded: list[int] = []
        self.asked: list[int] = []
        self.priorities: set[int] = set()

    async def decode(self, batch: Batch) -> Batch:
        self.decoded.append(len(batch))
        return replace(batch, columns={"input": Column.of("input", np.stack([PIXELS] * len(batch)))})

    async def add(self, batch: Batch) -> Batch:
        """The sum of all, times the weight of the row."""
        self.asked.append(len(batch))
        self.priorities.update(batch.rows.priorities)
        sums = batch.columns["image"].array.astype(np.float64).sum(axis=(1, 2, 3))
        return replace(batch, columns={"total": Column.of("total", sums * batch.columns["weight"].array)})


async def test_each_patch_of_an_answered_image_is_told(tmp_path: Path) -> None:
    leaves = Leaves()
    async with running(tmp_path, PICTURE) as (started, monitoring):
        started.preprocessing.hook, started.executor.hook = leaves.decode, leaves.add
        await started.ask("scored", batch_of(["a file"], [2.0]))
        await until(lambda: monitoring.explained)
        [told] = monitoring.explained
    assert list(told.columns) == [*(f"input[{r},{c}]" for r in range(4) for c in range(6)), "input[rest]"]
    assert set(told.base_sources) == {"blank"}
    # The weight, which is no pixel, stays as it is.
    each = 2.0 * (PIXELS.astype(float) - 128).sum(axis=2).ravel()
    assert list(told.contributions) == pytest.approx([*each, 0.0])
    assert (told.base, told.value) == (2.0 * 72 * 128, 2.0 * PIXELS.sum())
    # Once for the caller and once for the explanation; the model for the caller, and for 26 images.
    assert leaves.decoded == [1, 1]
    assert sum(leaves.asked) == 1 + 26
    assert leaves.asked[1] == 1
    assert leaves.priorities == {0, 1}


async def test_an_image_is_explained_on_request(tmp_path: Path) -> None:
    leaves = Leaves()
    async with running(tmp_path, PICTURE.replace("explanations: {demanded: true}\n", "")) as (started, _):
        started.preprocessing.hook, started.executor.hook = leaves.decode, leaves.add
        [row] = await explain(started, batch_of(["a file"], [1.0]))
    assert row.coalition_count == 27
    assert [c.column for c in row.contributions][-1] == "input[rest]"
    # What an operator is shown holds nothing of the image.
    assert {(c.base_json, c.value_json) for c in row.contributions} == {("", "")}
