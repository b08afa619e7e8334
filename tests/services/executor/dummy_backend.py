"""A backend that is not in the executor: what a new module in `services/executor/backends` has to hold, and no more."""

import json
from collections.abc import Sequence

from headrace.repository import Artifact, TensorSpec
from services.executor.backends.backend import (
    Backend,
    BackendError,
    BackendFactory,
    Capabilities,
    Environment,
    Progress,
    Tensors,
)
from services.executor.config import ModelSettings


class Dummy:
    """y = factor · x. The artifact is the factor as JSON; the argument, if there is one, replaces it."""

    name = "dummy"
    capabilities = Capabilities("nowhere", concurrent_runs=True, max_rows=None)

    def __init__(self, artifact: Artifact, argument: str) -> None:
        self._artifact = artifact
        self._argument = argument
        self._factor: float | None = None

    def activate(self) -> None:
        self._factor = float(self._argument or json.loads(self._artifact.content))

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        return self._artifact.metadata.inputs, self._artifact.metadata.outputs

    def run(self, inputs: Tensors, deadline: float) -> Tensors:
        if self._factor is None:
            raise BackendError("the model is not active")
        return {"y": inputs["x"] * inputs["x"].dtype.type(self._factor)}

    def interrupt(self, started_before: float) -> None:
        """Its runs take no time."""

    def deactivate(self) -> None:
        self._factor = None


def factory(_environment: Environment) -> BackendFactory:
    def make(artifact: Artifact, _settings: ModelSettings, argument: str, progress: Progress) -> Backend:
        progress("making a dummy")
        return Dummy(artifact, argument)

    return make
