"""Which loaded model a call means."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.columns import Batch
from headrace.repository import Metadata, version_key
from services.executor import errors
from services.executor.running import Runner


class Models:
    """The loaded models by name and version."""

    def __init__(self, runners: Iterable[Runner]) -> None:
        self._runners: dict[str, dict[str, Runner]] = {}
        for runner in sorted(runners, key=_age):
            about = runner.model.metadata
            self._runners.setdefault(about.name, {})[about.version] = runner

    async def execute(self, model: str, version: str, batch: Batch, received: float) -> tuple[Batch, Runner]:
        """The outputs of a batch, and who ran it. `version` "" = the newest that is loaded.

        Raises Fault NOT_FOUND, and what `Runner.execute` raises.
        """
        runner = self._find(model, version)
        return await runner.execute(batch, received), runner

    def all(self) -> list[Metadata]:
        """What is loaded, by name, oldest version first."""
        return [r.model.metadata for name in sorted(self._runners) for r in self._runners[name].values()]

    def _find(self, model: str, version: str) -> Runner:
        versions = self._runners.get(model)
        if versions is None:
            raise errors.model_unknown(model, self._runners)
        if not version:
            return versions[next(reversed(versions))]
        runner = versions.get(version)
        if runner is None:
            raise errors.version_unknown(model, version, versions)
        return runner


def _age(runner: Runner) -> tuple[tuple[int, int, str], ...]:
    return version_key(runner.model.metadata.version)
