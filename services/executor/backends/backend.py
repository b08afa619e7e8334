"""The interface of a backend: an engine that runs models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headrace.repository import Artifact, TensorSpec
from services.executor.config import ExecutorConfig, ModelSettings

if TYPE_CHECKING:
    from services.executor.backends.servers import Servers

Array: TypeAlias = NDArray[np.generic]
Tensors: TypeAlias = Mapping[str, Array]
"""Tensor name → array of shape (rows, *row_shape); text tensors have dtype object and hold str or bytes."""


class BackendError(Exception):
    """A model can't be activated on this backend. The text says why and what to do; it is for operators."""


class BackendLostError(Exception):
    """The engine can't run anything now: device lost, out of memory, server unreachable. The rows are not the reason."""


class BackendLateError(Exception):
    """The engine has not answered before the deadline. As far as is known, the rows are not the reason."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an active backend can do with its model."""

    # Where it runs, for example `cpu`.
    device: str
    # Whether several threads may call `run` at the same time.
    concurrent_runs: bool
    # The most rows of one run; None: no limit.
    max_rows: int | None
    # Batch sizes that it runs, ascending; others are padded to the next larger one. Empty: any size, unpadded.
    buckets: tuple[int, ...] = ()
    # Memory that it takes, as far as is known.
    memory_bytes: int = 0
    # Threads of one run on the CPU; 0: its own choice is not known.
    threads: int = 0
    # Whether a short run may be made on the event loop. False if a run waits for something outside this process.
    inline: bool = True


class Backend(Protocol):
    """One model on one engine. `run` may be called between `activate` and `deactivate`; `activate` may follow again.

    All methods block and are called on threads. Only short runs are made on the event loop, if `capabilities.inline`.
    """

    @property
    def name(self) -> str:
        """Name in metadata, metrics and replies, for example `onnxruntime`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Known after `activate`."""
        ...

    def activate(self) -> None:
        """Loads the model into memory; may take long. Raises BackendError."""
        ...

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        """Inputs and outputs as in the artifact. A text instead of a TensorSpec says why that tensor can't be used.

        A dimension that the artifact leaves open is −1.
        """
        ...

    def run(self, inputs: Tensors, deadline: float) -> Tensors:
        """The outputs for 1 or more rows. `deadline`: monotonic seconds; nobody waits for the outputs after it.

        Raises BackendLostError or BackendLateError; if the rows may be the reason, whatever the engine raises.
        """
        ...

    def interrupt(self, started_before: float) -> None:
        """Asks runs and an activation that began before that (monotonic seconds) to end with an error; from any thread."""
        ...

    def deactivate(self) -> None:
        """Frees what `activate` took. No run is in progress, except one that hangs for ever."""
        ...


Progress = Callable[[str], None]
"""Is called with a short text that says what a load is doing now; from any thread."""

BackendFactory = Callable[[Artifact, ModelSettings, str, Progress], Backend]
"""Makes the backend of one version from its artifact and the model's settings. The text is the part of the backend's name
after the colon, for example `cuda` of `onnxruntime:cuda`; empty if there is none. Raises BackendError."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the executor gives to every backend. `servers` None: no other server may be called (files are checked)."""

    config: ExecutorConfig
    servers: Servers | None
