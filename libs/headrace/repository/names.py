"""Names and versions: which are allowed, and which version is newer."""

from __future__ import annotations

import re

from headrace.repository.errors import BadNameError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_PART = re.compile(r"\d+|[a-z]+", re.IGNORECASE)

VersionKey = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> VersionKey:
    """Sort key of a version: numbers by value, so 1.9 < 1.10; a word before any number, so 1.0rc1 < 1.0.1.

    A shorter version comes before a longer one that begins with it.
    """
    parts = _PART.findall(version)
    numbers_and_words = tuple((1, int(p), "") if p.isdigit() else (0, 0, p.lower()) for p in parts)
    # Spellings of one value (1.0, 01.0) still get a fixed order.
    return (*numbers_and_words, (-1, 0, version))


def may_name(name: str) -> bool:
    """Whether a model, version or file may be called so."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def check_name(kind: str, name: str) -> str:
    """`name` if it may name a folder here; it may come from a caller, so no path must hide in it.

    Raises BadNameError.
    """
    if not may_name(name):
        shown = name if len(name) <= 64 else name[:64] + "…"
        raise BadNameError(
            "",
            "",
            f"{shown!r} is no {kind} name",
            "use letters, digits and . _ + - (at most 128, no '..'), beginning with a letter or digit",
        )
    return name
