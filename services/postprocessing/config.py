"""Settings of postprocessing."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from headrace.hop import config


class PostprocessingConfig(config.ServiceSettings):
    """Settings of postprocessing."""

    # Compiled specifications that are remembered; a pipeline revision has one per postprocessing stage.
    max_programs: PositiveInt = 256
    # Rows × steps that the event loop works off by itself: about 1 ms. More goes to a thread.
    inline_work: NonNegativeInt = 8192
    # Threads for larger batches and for compiling.
    threads: PositiveInt = 2
