"""What the domain logic of the monitoring service needs of its surroundings."""

from __future__ import annotations

from typing import Any, Protocol


class Log(Protocol):
    """The part of structlog's logger that is used here."""

    def info(self, event: str, **fields: Any) -> Any: ...
    def warning(self, event: str, **fields: Any) -> Any: ...
    def error(self, event: str, **fields: Any) -> Any: ...
