"""Messages of events in a Redis stream: routers add them, monitoring services read them as one group. Only commands are here."""

from __future__ import annotations

from typing import Any

Command = tuple[Any, ...]
STREAM, GROUP = "headrace:events", "monitoring"
_FIELD = b"m"


def add(content: bytes, most: int) -> Command:
    """Adds a message. `most`: messages that are kept, about; the oldest go."""
    return "XADD", STREAM, "MAXLEN", "~", most, "*", _FIELD, content


def found() -> Command:
    """Makes stream and group; an error if they are there."""
    return "XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM"


def claim(reader: str, idle_ms: int, count: int) -> Command:
    """Takes over messages that another reader got `idle_ms` ago and has not stored: it may have been killed."""
    return "XAUTOCLAIM", STREAM, GROUP, reader, idle_ms, "0-0", "COUNT", count


def read(reader: str, count: int, *, again: bool, wait_ms: int) -> Command:
    """Reads messages: those that came to nobody yet, or (`again`) those that came to this reader and were not stored."""
    block = () if again else ("BLOCK", wait_ms)
    return (
        "XREADGROUP",
        "GROUP",
        GROUP,
        reader,
        "COUNT",
        count,
        *block,
        "STREAMS",
        STREAM,
        "0" if again else ">",
    )


def done(ids: list[bytes]) -> list[Command]:
    """Messages are stored, and need no room any more."""
    return [("XACK", STREAM, GROUP, *ids), ("XDEL", STREAM, *ids)]


def contents(reply: Any) -> list[tuple[bytes, bytes | None]]:
    """Ids and messages in the reply to `read`; None: it was removed, as there were too many."""
    if not reply:
        return []
    # RESP3 has a map of streams, RESP2 a list of pairs.
    entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
    return [(entry, _content(fields)) for entry, fields in entries]


def _content(fields: Any) -> bytes | None:
    if not fields:
        return None
    pairs = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
    content: bytes | None = pairs.get(_FIELD)
    return content
