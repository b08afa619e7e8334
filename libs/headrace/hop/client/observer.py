"""Events of hop's client for metrics, so that the client itself needs no metrics library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.hop.errors import Code

if TYPE_CHECKING:
    from headrace.hop.batching.coalesce import Coalescer
    from headrace.hop.resilience.replicas import Replica


class ClientObserver:
    """Receives the events of one client; this one ignores them. All methods are called on the event loop and must be quick."""

    def replica_added(self, replica: Replica) -> None:
        """A replica was added; its state and limit can be read at any time."""

    def waiting(self, method: str, rows: Coalescer[Any, Any]) -> None:
        """A coalescer of the method was made; its waiting rows can be read at any time."""

    def finished(self, method: str, code: Code, seconds: float) -> None:
        """A call ended after `seconds`, retries included."""

    def retried(self, method: str) -> None:
        """A call is retried."""

    def hedged(self, method: str) -> None:
        """A call is sent to another replica too."""
