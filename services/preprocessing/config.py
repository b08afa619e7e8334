"""Settings of preprocessing."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from headrace.hop import config


class PreprocessingConfig(config.ServiceSettings):
    """Settings of preprocessing."""

    # Compiled specifications that are remembered; a pipeline revision has one per preprocessing stage.
    max_programs: PositiveInt = 256
    # Rows × steps that the event loop works off by itself: about 1 ms. More goes to a thread.
    inline_work: NonNegativeInt = 8192
    # Threads for larger batches and for compiling.
    threads: PositiveInt = 2
