"""An empty model repository, as the executor's own tests have it."""

from tests.services.executor.conftest import models

__all__ = ["models"]
