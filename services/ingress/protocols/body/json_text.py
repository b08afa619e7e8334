"""JSON from callers: limited in its number of values, checked strictly, and parsed in steps when it is large."""

from __future__ import annotations

import json
import re
from typing import Any

import ijson  # type: ignore[import-untyped]  # has no stubs
import numpy as np

from services.ingress.faults import malformed, too_many_values

# `ijson` with its C parser where this platform has it; in pure Python it would take a hundred times as long.
_parser = ijson.get_backend("yajl2_c") if "yajl2_c" in ijson.ALL_BACKENDS else ijson.backend
# Python's own parser holds the GIL until it has finished: one millisecond for this many bytes.
_AT_ONCE_BYTES = 256 * 1024
_STEP_BYTES = 32 * 1024
# A surrogate without its pair has no UTF-8 form. Every escape is matched, so that an escaped backslash before it is noticed.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
# The message of the step-wise parser for an integer that does not fit into 64 bits with a sign.
_TOO_LONG = "integer overflow"
_MAX_DEPTH = 100
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1
_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read(body: bytes, most: int) -> Any:
    """Parses a JSON text of at most `most` values. A large text takes long, but other threads can run meanwhile.

    Raises Fault INVALID_ARGUMENT for anything but JSON in UTF-8, RESOURCE_EXHAUSTED for too many values.
    """
    if len(body) > most:  # a byte may be a value
        _check_count(body, most)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise malformed("the body is not JSON: it is not UTF-8") from None
    if _SURROGATE.search(body) and any(found[1] for found in _ESCAPES.finditer(body)):
        raise malformed("the body is not JSON: it has half of a surrogate pair, which no text has")
    try:
        return _at_once(text) if len(body) <= _AT_ONCE_BYTES else _in_steps(body, text)
    except (ValueError, RecursionError, ijson.JSONError) as error:
        raise malformed(f"the body is not JSON: {_shown(error)}") from None


class _Object(dict[str, Any]):
    """Builds a JSON object. Duplicate keys are refused: different programs would use different values of such a key."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key in self:
            raise ValueError(f"the key {key[:80]!r} comes twice")
        super().__setitem__(key, value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        found = _Object()
        for key, value in pairs:
            found[key] = value
    return made


def _at_once(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _in_steps(body: bytes, text: str) -> Any:
    if b"\v" in body or b"\f" in body:  # white space to that parser, but not in JSON (RFC 8259)
        raise ValueError("a control character")
    _check_depth(body)
    found = ijson.sendable_list()
    parse = _parser.items_coro(found, "", map_type=_Object, use_float=True)
    content = text.encode()  # without a byte order mark
    try:
        for start in range(0, len(content), _STEP_BYTES):
            parse.send(content[start : start + _STEP_BYTES])
        parse.close()
    except ijson.JSONError as error:
        if _TOO_LONG in str(error):
            return _at_once(text)
        raise
    return found[0]


def _check_count(body: bytes, most: int) -> None:
    # Commas and brackets inside strings are counted, too: no string needs a million of them.
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise too_many_values(most)


def _check_depth(body: bytes) -> None:
    """The time of the step-wise parser grows with the square of the depth, so deep nesting would take too long."""
    # First assume that strings contain no brackets: this is fast and almost always enough.
    if _depth(body.translate(None, _NO_BRACKETS)) > _MAX_DEPTH and _depth(_TEXTS.sub(b"", body)) > _MAX_DEPTH:
        raise malformed(f"the JSON is nested more than {_MAX_DEPTH} deep")


def _depth(body: bytes) -> int:
    steps = _STEPS[np.frombuffer(body, np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _shown(error: Exception) -> str:
    # yajl shows the text around the error in additional lines.
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return text.partition("\n")[0][:120]
