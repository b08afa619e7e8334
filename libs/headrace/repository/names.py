"""Allowed names of models, versions and files, and the order of versions."""

from __future__ import annotations

import re

from headrace.repository.errors import BadNameError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_PART = re.compile(r"\d+|[a-z]+", re.IGNORECASE)

VersionKey = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> VersionKey:
    """Sort key of a version: numbers by value (1.9 < 1.10), a word before any number (1.0rc1 < 1.0.1).

    A version comes before a longer one that begins with it.
    """
    parts = _PART.findall(version)
    numbers_and_words = tuple((1, int(p), "") if p.isdigit() else (0, 0, p.lower()) for p in parts)
    # Two spellings of one value (1.0, 01.0) need a fixed order, too.
    return (*numbers_and_words, (-1, 0, version))


def may_name(name: str) -> bool:
    """Whether `name` is an allowed name of a model, version or file."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def check_name(kind: str, name: str) -> str:
    """Returns `name` if it is allowed. A name may come from a caller, so it must not contain a path.

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
