"""How the coalescer joins what waits into one call and deals the reply out again; it knows no rows itself."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
Req = TypeVar("Req", covariant=True)
Resp = TypeVar("Resp", contravariant=True)


class BatchCodec(Protocol[Item, Result, Req, Resp]):
    """What the coalescer must know of the items of one method. Given from outside (`headrace.columns.batch_codec`)."""

    def key(self, item: Item) -> Hashable:
        """Items of one key may share a call."""
        ...

    def rows(self, item: Item) -> int:
        """Rows that the item brings."""
        ...

    def size(self, item: Item) -> int:
        """About how many bytes it brings."""
        ...

    def deadline(self, item: Item) -> float:
        """Latest deadline of its rows, monotonic seconds: nobody waits longer for the item."""
        ...

    def priority(self, item: Item) -> int:
        """Highest priority of its rows; shed lowest first."""
        ...

    def merge(self, items: Sequence[Item]) -> Req:
        """One request of several items, stamped with the budgets left now."""
        ...

    def split(self, items: Sequence[Item], response: Resp) -> Sequence[Result]:
        """One result per item. Raises Fault INTERNAL if the response does not fit the items."""
        ...
