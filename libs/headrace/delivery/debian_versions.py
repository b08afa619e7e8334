"""The order of Debian's versions (deb-version(7)): what it says of epochs, digits and `~`."""

from __future__ import annotations

import re

Part = tuple[tuple[tuple[int, ...], int], ...]
_PARTS = re.compile(r"(\D*)(\d*)")
# `~` sorts before all, even the end; letters before the rest.
_TILDE, _END = -1, 0
_REST = 256


def debian_key(version: str) -> tuple[int, Part, Part]:
    """Sorts as dpkg sorts."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    if not hyphen:
        upstream, revision = rest, ""
    return int(epoch) if epoch.isdigit() else 0, _key(upstream), _key(revision)


def _key(text: str) -> Part:
    parts = [(_order(words), int(digits or 0)) for words, digits in _PARTS.findall(text) if words or digits]
    return (*parts, ((_END,), 0))


def _order(text: str) -> tuple[int, ...]:
    found = [_TILDE if c == "~" else ord(c) if c.isalpha() else ord(c) + _REST for c in text]
    return (*found, _END)
