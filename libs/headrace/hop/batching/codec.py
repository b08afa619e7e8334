"""How the coalescer merges items into one request and splits the reply; the coalescer itself knows nothing of rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

if TYPE_CHECKING:
    from google.protobuf.message import Message

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
Req = TypeVar("Req", covariant=True)
Resp = TypeVar("Resp", contravariant=True)


# (key, tenant, rows, size, deadline, priority) of an item. Items of one key may share a call. Tenants have equal shares of the
# queue. Size: about as many bytes. Deadline: the latest of its rows, in monotonic seconds; after it no caller waits for the item.
# Priority: the highest of its rows; the lowest is shed first. A plain tuple, as one is made for each item of each hop.
ItemDescription: TypeAlias = tuple[Hashable, Hashable, int, int, float, int]


class BatchCodec(Protocol[Item, Result, Req, Resp]):
    """What the coalescer must know about the items of one method. Implemented in `headrace.columns.batch_codec`."""

    def describe(self, item: Item) -> ItemDescription:
        """What the queue must know of an item."""
        ...

    def merge(self, items: Sequence[Item]) -> Req:
        """One request of several items, with the time that each has left now."""
        ...

    def split(self, items: Sequence[Item], response: Resp) -> Sequence[Result]:
        """One result per item. Raises Fault INTERNAL if the response does not fit the items."""
        ...


# Share (0 to 1) of the rows of a reply's results that failed by the callee's fault.
FailedShare = Callable[[Sequence[Any]], float]


class UsesPayload(Protocol):
    """Optional part of a BatchCodec: inside one process, large data goes by reference beside the message."""

    def load(self, items: Sequence[Any]) -> tuple[Message, Any]:
        """The request without the large data, and that data (`InProcessPayload.brought`)."""
        ...

    def unload(self, items: Sequence[Any], response: Any, returned: Any) -> Sequence[Any]:
        """As `split`, with the data that the callee returned beside its response. Raises Fault INTERNAL if it does not fit."""
        ...


def failed_share_of(codec: object) -> FailedShare:
    """The codec's `failed` if it has one; otherwise a reply counts as successful."""
    failed_share: FailedShare = getattr(codec, "failed", lambda _: 0.0)
    return failed_share


def payload_codec_of(codec: object) -> UsesPayload | None:
    """The codec, if it supports payloads."""
    return cast("UsesPayload", codec) if hasattr(codec, "load") else None
