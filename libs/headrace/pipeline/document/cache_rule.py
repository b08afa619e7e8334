"""The key `cache` of a document: whether answers are kept, for how long, and in how much memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.pipeline.document.durations import duration_text
from headrace.pipeline.document.entries import Entry

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(rf"([0-9]{{1,9}})({'|'.join(_UNITS)})")
_MIN_BYTES, _MAX_BYTES, _DEFAULT_BYTES = 1 << 16, 1 << 36, 64 << 20
_MIN_US, _MAX_US = 1_000, 30 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class CacheRule:
    """How answers are kept. `ttl_us`: up to this age an answer is served. `max_bytes`: memory for this pipeline's answers in each
    router. `stale_us`: up to this age an answer may take the place of one that can't be computed now; 0: never."""

    ttl_us: int
    max_bytes: int = _DEFAULT_BYTES
    stale_us: int = 0

    @property
    def kept_us(self) -> int:
        """How long an answer is of any use."""
        return max(self.ttl_us, self.stale_us)


def read_cache(entry: Entry | None) -> CacheRule | None:
    """The rule of a document; None: it has no `cache`. What is wrong is logged."""
    if entry is None:
        return None
    fields = entry.fields(["ttl"], ["max_bytes", "stale_on_failure"])
    if "ttl" not in fields:
        return None
    ttl_us = fields["ttl"].duration(_MIN_US, _MAX_US)
    max_bytes = _read_size(fields["max_bytes"]) if "max_bytes" in fields else _DEFAULT_BYTES
    stale_us = 0
    if "stale_on_failure" in fields:
        stale_us = fields["stale_on_failure"].duration(_MIN_US, _MAX_US)
        if stale_us <= ttl_us:
            message = f"should be longer than the ttl ({duration_text(ttl_us)}): until then the answer is served anyway"
            fields["stale_on_failure"].fail(message)
    return CacheRule(ttl_us, max_bytes, stale_us)


def _read_size(entry: Entry) -> int:
    """A text such as `64MiB`, in bytes."""
    value = entry.plain()
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        entry.fail(f"should be a size with its unit, such as 512KiB, 64MiB or 1GiB; is {value!r}")
        return _DEFAULT_BYTES
    size = int(found[1]) * _UNITS[found[2]]
    if not _MIN_BYTES <= size <= _MAX_BYTES:
        entry.fail(f"should be from 64KiB to 64GiB, is {value}")
    return size
