"""Settings of the router."""

from __future__ import annotations

from pathlib import Path

from pydantic import PositiveFloat

from headrace.hop import config


class RouterConfig(config.ServiceSettings):
    """Settings of the router."""

    # Folder with one subfolder, holding a pipeline.yaml, per pipeline.
    pipelines: Path
    # Folder for the last good text of each document, which serves while the document is broken, over restarts too.
    # Replicas may share it. Absent: a document that is broken at the start has nothing that serves.
    kept: Path | None = None
    # The services that stages call; one that no pipeline needs may stay out.
    features: config.ClientSettings | None = None
    preprocessing: config.ClientSettings | None = None
    executor: config.ClientSettings | None = None
    postprocessing: config.ClientSettings | None = None
    # What a features stage may take of the row's time before its defaults apply.
    features_timeout_s: PositiveFloat = 0.25
    # How often changed documents are looked for.
    reload_every_s: PositiveFloat = 1.0
