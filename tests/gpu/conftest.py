"""An empty model repository, as the executor's own tests have it."""

from __future__ import annotations

from tests.services.executor.conftest import models

__all__ = ["models"]
