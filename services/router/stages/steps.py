"""Stages that run steps or a model."""

from __future__ import annotations

import numpy as np

from headrace.columns import Batch
from headrace.columns.column import Mask
from headrace.pipeline import ModelStage, ModelUse, StepsStage
from services.router.ports import Execution, ModelRunner, StepRunner
from services.router.stages.runner import StageResult, columns_of


class StepsRun:
    """A preprocessing or postprocessing stage."""

    def __init__(self, stage: StepsStage, runner: StepRunner) -> None:
        self.service = stage.kind
        self._stage = stage
        self._runner = runner

    async def run(self, batch: Batch) -> StageResult:
        reply = await self._runner.run(self._stage, batch)
        columns = columns_of(self._stage.name, reply, self._stage.outputs, len(batch))
        return StageResult(columns, errors=reply.errors, timings=reply.timings)


class ModelRun:
    """A model stage: columns under the model's names on the way in, under the pipeline's on the way out."""

    service = "executor"

    def __init__(self, stage: ModelStage, runner: ModelRunner) -> None:
        self._stage = stage
        self._runner = runner
        self._types = {name: output.type for name, output in stage.outputs.items()}

    async def run(self, batch: Batch) -> StageResult:
        stage = self._stage
        inputs = {name: batch.columns[column].renamed(name) for name, column in stage.inputs.items()}
        done = await self._runner.execute(stage.model, stage.version, Batch(batch.rows, inputs))
        columns = columns_of(stage.name, done.batch, self._types, len(batch))
        return StageResult(
            [c.renamed(stage.outputs[c.name].column) for c in columns],
            errors=done.batch.errors,
            timings=done.batch.timings,
            fallbacks=self._fallbacks(done),
            model=ModelUse(
                stage.name,
                stage.model,
                done.version,
                done.sha256,
                done.backend,
                done.standby,
                done.cold_start,
            ),
            attributes=self._attributes(done),
        )

    def _fallbacks(self, done: Execution) -> dict[str, Mask]:
        if not done.standby:
            return {}
        answered = np.ones(len(done.batch), bool)
        answered[list(done.batch.errors)] = False
        return {f"model/{self._stage.name}:standby": answered} if answered.any() else {}

    def _attributes(self, done: Execution) -> dict[str, str]:
        """For the span."""
        found = {"model.name": self._stage.model, "model.version": done.version, "backend": done.backend}
        if done.standby:
            found["standby"] = "true"
        if done.cold_start:
            found["cold_start"] = "true"
        return found
