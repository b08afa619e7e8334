"""Durations as people write them: `3h`, `90m`, `1d12h`, `500ms`."""

from __future__ import annotations

import re

# In microseconds. The longest comes first, as in the text of a duration.
_UNITS = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
}
_FORM = re.compile("".join(f"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> int | None:
    """Microseconds; None if the text is no duration. Each part needs its unit; the longest unit comes first."""
    found = _FORM.fullmatch(text)
    if found is None or not text:
        return None
    return sum(int(part) * size for part, size in zip(found.groups(), _UNITS.values(), strict=True) if part)


def duration_text(us: int) -> str:
    """The duration in its two longest parts, such as `1d4h`; what is shorter than a millisecond is left out."""
    parts: list[str] = []
    for unit, size in _UNITS.items():
        count, us = divmod(us, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"
