"""Settings of the executor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from headrace.hop import config as hop
from headrace.hop.config import ServiceSettings, Settings
from headrace.resources import ResourceSettings


class LaneSettings(Settings):
    """The low-latency lane of a model: its rows do not wait for a larger batch, and run in small batches."""

    # Priority from which rows use it.
    priority: PositiveInt = 5
    # A run of the lane takes other rows only up to this size.
    rows: PositiveInt = 8
    # Instances that only the lane may use.
    instances: NonNegativeInt = 0


class ModelSettings(Settings):
    """How one model is run; each of its versions has its own queue and instances."""

    # Runs at the same time.
    instances: PositiveInt = 1
    # Rows in one run, and bytes of their inputs.
    max_rows: PositiveInt = Field(default=256, le=65536)
    max_bytes: PositiveInt = 256 * 1024 * 1024
    # How long a row may wait for a larger batch though an instance is idle; 0: natural batching only.
    max_delay_us: int = Field(default=0, ge=0, le=1_000_000)
    # Rows that may wait. If there are more, the lowest priority gets RESOURCE_EXHAUSTED.
    max_queue_rows: PositiveInt = 4096
    lane: LaneSettings | None = None
    # Backends in order of preference; all but the first stand by. Names are in `backends/registry.py`, for example
    # `onnxruntime`, `onnxruntime:cuda`, `tensorrt`, `remote:SERVER` (one of `servers`). Empty: the one that the model was
    # published for.
    backends: tuple[str, ...] = ()
    # Threads of one run on the CPU; 0: measured, as many as make it faster.
    threads: NonNegativeInt = 0
    # Where onnxruntime runs; `auto`: on a GPU if there is one.
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    # Batch sizes that a GPU engine is built for; other sizes are padded to the next larger one.
    gpu_rows: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    @field_validator("gpu_rows")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(sizes)))


class RemoteServer(Settings):
    """A server of the Open Inference Protocol: Triton, KServe, or another headrace."""

    client: hop.CalleeSettings
    # File with the credential that is sent as `authorization: Bearer …`.
    key_file: Path | None = None


class TensorRtSettings(Settings):
    """How TensorRT engines are built and stored."""

    module: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt"
    # Folder for built engines and timing caches, by model, GPU and version. None: engines are built at each start.
    cache: Path | None = None


class TrustSettings(Settings):
    """Which signatures models must have."""

    # Public keys (PEM files); a model must be signed with one of them.
    keys: tuple[Path, ...] = ()
    # Also accept models without a signature.
    accept_unsigned: bool = False


class CheckSettings(Settings):
    """Limits of the process that loads a model's files for the first time, before the executor itself does."""

    # Seconds for load, warm-up and samples together.
    seconds: PositiveFloat = 120.0
    # Memory that it may use; None: three quarters of the free memory, at most 8 GiB.
    memory_mib: PositiveInt | None = None


class ExecutorConfig(ServiceSettings):
    """Settings of the executor service."""

    # The model repository: a folder, or a URL that fsspec supports.
    models: Path | str
    # None: signatures are not checked.
    trust: TrustSettings | None = None
    # File that records which versions were loaded, refused and unloaded. If it can't be written, what an operator asks for is
    # not done; what is loaded at the start is recorded later. None: nothing is recorded.
    access_log: Path | None = None
    # Folder that the executors of one installation share: which versions serve, which files are known to load, which are in
    # quarantine. None: this is lost when the process ends, and files are not checked in a process of their own first.
    state: Path | None = None
    check: CheckSettings = CheckSettings()
    # What is live, as control says it. The versions that any release names are loaded, for as long as it does.
    resources: ResourceSettings | None = None
    # Client of control. Absent: what the artifacts of `resources` have is followed.
    control: hop.CalleeSettings | None = None
    # What is loaded besides: "all": the versions of each model that served last; the newest of a new model. "released": only
    # what operators loaded.
    load: Literal["all", "released"] = "all"
    # The start waits this long for first loads; longer ones continue while other models serve.
    start_s: PositiveFloat = 30.0
    # How models run, except those in `overrides`.
    defaults: ModelSettings = ModelSettings()
    overrides: dict[str, ModelSettings] = Field(default_factory=dict)
    # Servers that models may run on, by their name in `backends`.
    servers: dict[str, RemoteServer] = Field(default_factory=dict)
    tensorrt: TensorRtSettings = TensorRtSettings()
    # Batch sizes of the warm-up runs.
    warmup_rows: tuple[PositiveInt, ...] = (1, 8, 64, 256)
    # Runs with a shorter estimate are made on the event loop; longer ones on a thread.
    inline_us: int = Field(default=300, ge=0)
    # A longer run is abandoned: its rows fail, or run on the model's standby.
    run_timeout_s: PositiveFloat = 10.0
    # The same if another backend stands by.
    patience_s: PositiveFloat = 1.0
    # When a lost backend is probed first; each failure doubles the wait, up to 30 s.
    probe_s: PositiveFloat = 1.0
    # Memory for models. If they need more, the least recently used sleep until a call comes. None: no limit.
    memory_budget_mib: PositiveInt | None = None

    def settings_of(self, model: str) -> ModelSettings:
        return self.overrides.get(model, self.defaults)
