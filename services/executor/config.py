"""Settings of the executor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from headrace.hop import config as hop
from headrace.hop.config import ServiceSettings, Settings


class LaneSettings(Settings):
    """The low-latency lane of a model: its rows wait for no company and run in small runs."""

    # Priority from which rows use it.
    priority: PositiveInt = 5
    # A run that the lane begins takes other rows along only up to this size.
    rows: PositiveInt = 8
    # Instances that only the lane may take.
    instances: NonNegativeInt = 0


class ModelSettings(Settings):
    """How one model is run; each of its versions has its own queue and instances."""

    # Runs at the same time.
    instances: PositiveInt = 1
    # Rows in one run, and bytes of their inputs.
    max_rows: PositiveInt = Field(default=256, le=65536)
    max_bytes: PositiveInt = 256 * 1024 * 1024
    # A run takes the largest of these sizes that it can fill; empty: whatever waits.
    preferred_rows: tuple[PositiveInt, ...] = ()
    # How long a row may wait for company though an instance is idle; 0: natural batching alone.
    max_delay_us: int = Field(default=0, ge=0, le=1_000_000)
    # Rows that may wait; beyond, RESOURCE_EXHAUSTED for the lowest priority.
    max_queue_rows: PositiveInt = 4096
    lane: LaneSettings | None = None
    # Backends in order of preference, the others stand by: `onnxruntime`, `onnxruntime:cuda`, `tensorrt`,
    # `remote:SERVER` (one of `servers`). Empty: the one that the model was published for.
    backends: tuple[str, ...] = ()
    # Threads inside one run on the CPU; 0: as many as measurably help.
    threads: NonNegativeInt = 0
    # Where onnxruntime runs; `auto` takes a GPU if it is there.
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    # Sizes that a GPU engine is built and captured for; other sizes are padded up to the next.
    gpu_rows: tuple[PositiveInt, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    # The model's name and version on a remote server, if not as here and the server's choice.
    remote_model: str = ""
    remote_version: str = ""

    @field_validator("preferred_rows", "gpu_rows")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(sizes)))


class RemoteServer(Settings):
    """A server of the Open Inference Protocol: Triton, KServe, or another headrace."""

    client: hop.ClientSettings
    # File with the credential that goes along as `authorization: Bearer …`.
    key_file: Path | None = None


class TensorRtSettings(Settings):
    """How TensorRT engines are built and kept."""

    module: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt"
    # Built engines and timing caches, by model, GPU and version; None: built anew at each start.
    cache: Path | None = None
    workspace_mib: PositiveInt = 1024
    # 0 (fast to build) to 5 (fast to run).
    optimization: int = Field(default=3, ge=0, le=5)


class TrustSettings(Settings):
    """What is demanded of the models' signatures."""

    # Public keys (PEM files), any of which may have signed.
    keys: tuple[Path, ...] = ()
    # Take models that bear no signature, too.
    accept_unsigned: bool = False
    # File outside the repository that remembers the newest list of releases seen: an older one is refused.
    memory: Path | None = None


class CheckSettings(Settings):
    """Bounds for the process that loads a model's files for the first time, before the executor itself does."""

    # Seconds for loading, warm-up and samples together.
    seconds: PositiveFloat = 120.0
    # Memory that it may take; None: three quarters of what is free, at most 8 GiB.
    memory_mib: PositiveInt | None = None


class ExecutorConfig(ServiceSettings):
    """Settings of the executor service."""

    # The model repository: a folder, or a URL that fsspec knows.
    models: Path | str
    # None: signatures are not looked at.
    trust: TrustSettings | None = None
    # File that records which versions were loaded and which refused; what an operator asks for and can't be recorded is not
    # done, what is loaded at the start is recorded when that is possible again. None: nowhere.
    access_log: Path | None = None
    # Folder for what the executors of one installation share: which versions serve, which files are known to load, which are
    # in quarantine. None: that is forgotten with the process, and files are not checked in a process of their own first.
    state: Path | None = None
    check: CheckSettings = CheckSettings()
    # "all": of each model the versions that served last, of a new one the newest. Or entries "name" (every version of it),
    # "name:version" and "name:label", besides what served last.
    load: Literal["all"] | tuple[str, ...] = "all"
    # The start waits so long for models; those that need longer follow while the others serve.
    start_s: PositiveFloat = 30.0
    # How models run, unless `overrides` has the model's name.
    defaults: ModelSettings = ModelSettings()
    overrides: dict[str, ModelSettings] = Field(default_factory=dict)
    # Servers that models may run on, by the name that `backends` uses.
    servers: dict[str, RemoteServer] = Field(default_factory=dict)
    tensorrt: TensorRtSettings = TensorRtSettings()
    # Batch sizes that each model runs before it serves.
    warmup_rows: tuple[PositiveInt, ...] = (1, 8, 64, 256)
    # Runs expected to be shorter than this stay on the event loop; longer ones get a thread.
    inline_us: int = Field(default=300, ge=0)
    # A run longer than this is given up: its rows fail, or run on the model's standby.
    run_timeout_s: PositiveFloat = 10.0
    # The same where another backend stands by.
    patience_s: PositiveFloat = 1.0
    # How soon a lost backend is tried again; each failure doubles it, up to half a minute.
    probe_s: PositiveFloat = 1.0
    # Memory for models; beyond, the least recently used are put to sleep until a call comes. None: no bound.
    memory_budget_mib: PositiveInt | None = None

    def settings_of(self, model: str) -> ModelSettings:
        """How `model` is run."""
        return self.overrides.get(model, self.defaults)
