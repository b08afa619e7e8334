"""The books that doors share in a Redis. Knows the format of what is there, and refuses another one."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from headrace.state.redis import Found, RedisCalls, RedisDownError, look, may_pass, replace
from services.ingress.admission.row_key import RowKey
from services.ingress.sharing.division import Book, Grant, Limits, Use

T = TypeVar("T")
# What this version writes. Doors of another format can't share limits with it.
FORMAT = "headrace quotas 2"
_NAME = "headrace:quotas:"
_DOORS, _ROW_KEY = f"{_NAME}{{doors}}:format", f"{_NAME}{{doors}}:row_key"
# For how long a door is known that does not say that it is there.
KNOWN_MS = 3000
# Others may write between reading and writing, which takes a millisecond; then it is done again with what they wrote.
_ATTEMPTS = 4
# For how long the rows of a day are kept: a day and some, as clocks differ.
ROWS_KEPT_MS = 26 * 3600 * 1000
# Entries of rows that are read at once: more than there are doors, each of which may write one between two looks.
_ENTRIES = 128

Table = tuple[str, str, int]
"""Tenant, pipeline, day since 1970."""
Change = Callable[[bytes | None, int], tuple[bytes, int, T]]
"""What is there and the time (ms) → what shall be there, for how many ms, and a result. Raises ValueError if it can't be read."""


class FormatError(Exception):
    """Redis holds something else, or what another version writes. The text names no address."""


class RefusedError(Exception):
    """What is at the keys of a tenant can't be used."""


class BusyError(Exception):
    """Other doors wrote at the same time, so nothing was changed."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read of a table. `book`: what the doors have of its budget; `rows`: those after `last`, which is where to read on;
    `whole`: there are no more; `first`: the oldest entry, another one if Redis has lost rows."""

    book: Found
    rows: Sequence[int]
    whole: bool
    first: str
    last: str


class Books:
    """This door's. `row_key`: what rows are hashed with; `now_ms`: None for Redis' own clock."""

    def __init__(self, calls: RedisCalls, door: str, row_key: RowKey, now_ms: int | None = None) -> None:
        self.door = door
        self._row_key = row_key
        self.now_ms = now_ms
        self._calls = calls

    async def hello(self) -> int | None:
        """Says that this door is there, and agrees on the key of rows, which is the first door's. Returns how many doors there
        are; None: others were quicker. Raises RedisDownError, FormatError."""
        doors = (await self._changed({_DOORS: self._greet}))[_DOORS]
        if isinstance(doors, BusyError):
            return None
        found = _usable(_DOORS, doors)
        own = ("SET", _ROW_KEY, self._row_key.value, "NX"), ("GET", _ROW_KEY)
        for reply in await self._calls.ask(own):
            row_key = _usable(_ROW_KEY, reply)
        if row_key:
            self._row_key.agree(row_key)
        return found

    async def exchange(self, told: Mapping[str, tuple[Limits, Use]]) -> dict[str, Grant | Exception]:
        """Tells what tenants used, and gets what they may use next; BusyError: nobody has heard it; another error: what is at the
        tenant's key can't be used. Raises RedisDownError."""
        changes = {f"{_NAME}{_tag(t)}limits": self._exchange(*told[t]) for t in told}
        return dict(zip(told, (await self._changed(changes)).values(), strict=True))

    async def rows(self, table: Table, last: str) -> Rows:
        """Reads on in the rows of a table, after the entry `last`. Raises RedisDownError, RefusedError."""
        book, rows = _table_keys(table)
        oldest = ("XRANGE", rows, "-", "+", "COUNT", 1)
        after = ("XRANGE", rows, f"({last}", "+", "COUNT", _ENTRIES)
        found, first, entries = _taken(await self._calls.ask([look(book), oldest, after]))
        read = [row for _, fields in entries for row in _unpacked(fields.get(b"rows", b""))]
        return Rows(
            Found(*found),
            read,
            len(entries) < _ENTRIES,
            first[0][0].decode() if first else "",
            entries[-1][0].decode() if entries else last,
        )

    async def divide(self, table: Table, seen: Found, change: Change[T], rows: Sequence[int]) -> T:
        """Adds rows to a table, and changes its book. Raises RedisDownError, RefusedError; BusyError: others have changed that
        since it was `seen`, so only the rows are added."""
        book, stream = _table_keys(table)
        try:
            value, kept_ms, result = change(seen.value, self.now_ms or seen.now_ms)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        commands = [replace(book, seen.value, value, kept_ms)]
        if rows:
            packed = struct.pack(f"<{len(rows)}Q", *rows)
            commands = [("XADD", stream, "*", "rows", packed), ("PEXPIRE", stream, ROWS_KEPT_MS), *commands]
        if not Found(*_taken(await self._calls.ask(commands))[-1]).replaced:
            raise BusyError
        return result

    async def close(self) -> None:
        """The other doors need not wait until this one is forgotten."""
        try:
            await self._changed({_DOORS: lambda value, now: self._greet(value, now, leaves=True)})
        except (RedisDownError, FormatError):
            return
        finally:
            await self._calls.close()

    def _greet(self, value: bytes | None, now: int, *, leaves: bool = False) -> tuple[bytes, int, int]:
        """The doors that are known: after the format, when each is forgotten."""
        text = f"{FORMAT} {{}}" if value is None else value.decode(errors="replace")
        if not text.startswith(f"{FORMAT} "):
            raise FormatError(
                f"{_DOORS} says {text[:40]!r} where this version writes {FORMAT!r}: another version of headrace or another "
                "program, uses this database; name another one, or stop the other doors and delete the key"
            )
        doors = {name: until for name, until in json.loads(text[len(FORMAT) :]).items() if until > now}
        doors.pop(self.door, None)
        if not leaves:
            doors[self.door] = now + KNOWN_MS
        return f"{FORMAT} {json.dumps(doors)}".encode(), 2 * KNOWN_MS, len(doors)

    def _exchange(self, limits: Limits, use: Use) -> Change[Grant]:
        def changed(value: bytes | None, now: int) -> tuple[bytes, int, Grant]:
            book = Book.of_bytes(value)
            grant, kept_ms = book.exchange(self.door, now, limits, use)
            return book.to_bytes(), kept_ms, grant

        return changed

    async def _changed(self, changes: Mapping[str, Change[T]]) -> dict[str, T | Exception]:
        """Changes what is at each key, in one step each: the results in the same order. Raises RedisDownError."""
        done: dict[str, T | Exception] = {
            key: BusyError("other doors write at the same time") for key in changes
        }
        replies = dict(zip(changes, await self._calls.ask([look(key) for key in changes]), strict=True))
        for _ in range(_ATTEMPTS):
            results: dict[str, T] = {}
            commands: dict[str, tuple[Any, ...]] = {}
            for key, reply in replies.items():
                if isinstance(reply, Exception):
                    done[key] = reply
                    continue
                found = Found(*reply)
                if found.replaced:
                    continue
                try:
                    value, kept_ms, results[key] = changes[key](found.value, self.now_ms or found.now_ms)
                    commands[key] = replace(key, found.value, value, kept_ms)
                except ValueError as error:
                    done[key] = error
            if not commands:
                break
            replies = dict(zip(commands, await self._calls.ask(list(commands.values())), strict=True))
            done |= {
                key: results[key]
                for key, reply in replies.items()
                if not isinstance(reply, Exception) and reply[1]
            }
        return done


def said(reply: Exception) -> str:
    """What is logged of a refusal."""
    return str(reply).partition("\n")[0][:120]


def _usable(key: str, reply: T | Exception) -> T:
    """Raises RedisDownError, FormatError."""
    if not isinstance(reply, Exception):
        return reply
    if may_pass(reply):
        raise RedisDownError(said(reply), asked=True)
    raise FormatError(
        f"what is at {key} can't be used ({said(reply)}): another program uses this Redis, or it is no "
        "Redis that runs scripts; name another database"
    )


def _taken(replies: Sequence[Any]) -> Sequence[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise RefusedError(said(reply))
    return replies


def _tag(name: str) -> str:
    """What stands in braces decides the slot of a cluster."""
    return "{" + hashlib.sha256(name.encode()).hexdigest()[:32] + "}:"


def _table_keys(table: Table) -> tuple[str, str]:
    tag = _tag("\0".join(map(str, table)))
    return f"{_NAME}{tag}budget", f"{_NAME}{tag}rows"


def _unpacked(packed: bytes) -> Sequence[int]:
    """Hashes of rows, which are never 0; of what is something else, nothing."""
    return [row for row in struct.unpack(f"<{len(packed) // 8}Q", packed[: len(packed) // 8 * 8]) if row]
