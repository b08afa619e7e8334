"""What the executor asks of an engine that runs models."""

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
    """A model can't be made ready on this backend; the text says why and what to do. For operators."""


class BackendLostError(Exception):
    """The engine can't run anything now: device gone, memory exhausted, server unreachable. No row is at fault."""


class BackendLateError(Exception):
    """The engine has not answered in the time allowed. No row is at fault as far as anyone knows."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend, once active, can do with its model."""

    # Where it runs, for example `cpu`.
    device: str
    # Whether `run` may be called by several threads at once.
    concurrent_runs: bool
    # Rows that the artifact was built for; None: any number.
    max_rows: int | None
    # Sizes that it runs, ascending; others are padded up to the next. Empty: any size as it is.
    buckets: tuple[int, ...] = ()
    # Memory that it takes, as well as that can be known.
    memory_bytes: int = 0
    # Whether a run may stay on the event loop if it is short: false for what waits for others.
    inline: bool = True


class Backend(Protocol):
    """One model on one engine. Between `activate` and `deactivate`, `run` may be called.

    `activate` may follow `deactivate`. All of it blocks, and is called outside the event loop; only runs that are
    known to be short, of a backend whose capabilities allow it, are made on the loop.
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
        """Takes memory and makes ready; may take long. Raises BackendError."""
        ...

    def signature(self) -> tuple[Sequence[TensorSpec | str], Sequence[TensorSpec | str]]:
        """Inputs and outputs as the artifact itself has them; a text says what about one is not usable.

        A dimension that the artifact leaves open is −1.
        """
        ...

    def run(self, inputs: Tensors, deadline: float) -> Tensors:
        """The outputs for 1 or more rows. `deadline`: monotonic seconds after which nobody waits for them.

        Raises BackendLostError, BackendLateError, or, where the rows may be at fault, whatever the engine raises.
        """
        ...

    def interrupt(self, started_before: float) -> None:
        """Asks runs, and an activation, begun before that (monotonic seconds) to end with an error; from any thread."""
        ...

    def deactivate(self) -> None:
        """Gives back what `activate` took. No run is in progress, unless it hangs for good."""
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
