"""The backends that models can run on. A new backend is one module in this folder, one line here, and its test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

from services.executor.backends.backend import BackendFactory, Environment
from services.executor.config import ModelSettings


def _on_cpu(settings: ModelSettings, argument: str) -> bool:
    return settings.device == "cpu" and argument not in ("cuda", "auto")


@dataclass(frozen=True, slots=True)
class Registered:
    """One backend. `module` has the function `factory(environment: Environment) -> BackendFactory`.

    The module is named, not imported: the process that checks files reads this table and must stay small.
    """

    module: str
    # Whether files can be tried in a process of their own, given the model's settings and what follows the colon in the
    # backend's name. False for a GPU and for another server: they are not loaded twice.
    checkable: Callable[[ModelSettings, str], bool] = lambda _settings, _argument: True

    def factory(self, environment: Environment) -> BackendFactory:
        """The backend's factory; imports its module."""
        made: BackendFactory = import_module(self.module).factory(environment)
        return made


# Name in settings and metadata → backend.
BACKENDS: dict[str, Registered] = {
    "onnxruntime": Registered("services.executor.backends.onnxruntime", _on_cpu),
    "remote": Registered("services.executor.backends.remote", lambda _settings, _argument: False),
    "tensorrt": Registered("services.executor.backends.tensorrt.backend", lambda _settings, _argument: False),
}


def factories(environment: Environment) -> Mapping[str, BackendFactory]:
    return {name: registered.factory(environment) for name, registered in BACKENDS.items()}


def checkable(name: str, settings: ModelSettings) -> bool:
    """Whether the backend called `name` (with its argument after a colon) can try files in a process of their own.

    True for an unknown backend: the check says that it is unknown.
    """
    kind, _, argument = name.partition(":")
    registered = BACKENDS.get(kind)
    return registered is None or registered.checkable(settings, argument)
