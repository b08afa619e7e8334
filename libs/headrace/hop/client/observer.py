"""What the client half tells whoever watches it. It needs no metrics library itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from headrace.hop.errors import Code

if TYPE_CHECKING:
    from headrace.hop.resilience.replicas import Replica


class WaitingRows(Protocol):
    """A coalescer, as its watcher sees it."""

    @property
    def waiting_rows(self) -> int: ...


class ClientObserver(Protocol):
    """Watches one client. All methods are called on the event loop and must be quick."""

    def replica_added(self, replica: Replica) -> None:
        """The client may pick this replica from now on; its breaker and limiter can be read any time."""
        ...

    def waiting(self, method: str, rows: WaitingRows) -> None:
        """A coalescer of the method was made; its waiting rows can be read any time."""
        ...

    def finished(self, method: str, code: Code, seconds: float, rows: int) -> None:
        """A call with so many rows ended, retries included."""
        ...

    def retried(self, method: str) -> None:
        """A call is tried again."""
        ...


class NullObserver:
    """Watches nothing."""

    def replica_added(self, replica: Replica) -> None: ...

    def waiting(self, method: str, rows: WaitingRows) -> None: ...

    def finished(self, method: str, code: Code, seconds: float, rows: int) -> None: ...

    def retried(self, method: str) -> None: ...
