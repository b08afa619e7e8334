"""How the coalescer merges items into one request and splits the reply; the coalescer itself knows nothing of rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
Req = TypeVar("Req", covariant=True)
Resp = TypeVar("Resp", contravariant=True)


class BatchCodec(Protocol[Item, Result, Req, Resp]):
    """What the coalescer must know about the items of one method. Implemented in `headrace.columns.batch_codec`."""

    def key(self, item: Item) -> Hashable:
        """Items of one key may share a call."""
        ...

    def rows(self, item: Item) -> int:
        """Number of rows of the item."""
        ...

    def size(self, item: Item) -> int:
        """Approximate bytes of the item."""
        ...

    def deadline(self, item: Item) -> float:
        """Latest deadline of its rows, in monotonic seconds: after it no caller waits for the item."""
        ...

    def priority(self, item: Item) -> int:
        """Highest priority of its rows; the lowest priority is shed first."""
        ...

    def merge(self, items: Sequence[Item]) -> Req:
        """One request of several items, with the time that each has left now."""
        ...

    def split(self, items: Sequence[Item], response: Resp) -> Sequence[Result]:
        """One result per item. Raises Fault INTERNAL if the response does not fit the items."""
        ...
