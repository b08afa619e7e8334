"""Stages that run steps or a model."""

from __future__ import annotations

from headrace.columns import Batch
from headrace.pipeline import ModelStage, StepsStage
from services.router.ports import ModelRunner, StepRunner
from services.router.results import ModelUse, StageResult, columns_of


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
            model=ModelUse(stage.name, stage.model, done.version, done.sha256),
            attributes={"model.name": stage.model, "model.version": done.version},
        )
