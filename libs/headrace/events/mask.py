"""Hashes in the place of personal data: whoever knows a value and the installation's salt finds its events, nobody else does."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.hop.config import ConfigError

HASH_BYTES = 16
_MIN_SALT_BYTES = 16
_MAX_SALT_BYTES = 64


class Mask:
    """Hashes with one salt. `salt` None: there is none, so values are left out altogether."""

    def __init__(self, salt: bytes | None) -> None:
        self._salt = salt

    @property
    def finds(self) -> bool:
        """Whether masked values can be found again."""
        return self._salt is not None

    def column(self, column: Column) -> Column:
        """The column with a hash of 16 bytes for each value; nulls stay nulls."""
        count = len(column)
        if self._salt is None:
            nothing = Ragged(np.zeros(count + 1, np.uint32), b"")
            return Column(column.name, DType.BYTES, nothing, valid=np.zeros(count, bool))
        hashes = b"".join([self.hash(column.name, text) for text in texts(column)])
        offsets = np.arange(0, (count + 1) * HASH_BYTES, HASH_BYTES, dtype=np.uint32)
        return Column(column.name, DType.BYTES, Ragged(offsets, hashes), valid=column.valid)

    def hash(self, name: str, text: bytes) -> bytes:
        """The hash of one value of the column `name`. Only with a salt."""
        assert self._salt is not None, "values without a salt are left out"
        # The name is part of it, so that equal values of different columns are not linked.
        return blake2b(name.encode() + b"\0" + text, key=self._salt, digest_size=HASH_BYTES).digest()


def texts(column: Column) -> list[bytes]:
    """Each row's value as text: strings as they are, numbers as Python writes them, `true` and `false`; the bytes of a row with
    several elements."""
    if column.row_shape:
        if isinstance(column.values, Ragged):
            items, size = column.values.to_list(), column.row_size
            return [b"\0".join(items[i : i + size]) for i in range(0, len(items), size)]
        return [row.tobytes() for row in column.values]
    if isinstance(column.values, Ragged):
        return column.values.to_list()
    if column.dtype is DType.BOOL:
        return [b"true" if value else b"false" for value in column.values.tolist()]
    return [str(value).encode() for value in column.values.tolist()]


def read_salt(path: Path | None) -> bytes | None:
    """The salt in a file; None: there is no file to read. Raises ConfigError if it can't be read or is too short."""
    if path is None:
        return None
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read the salt of events: {error}") from error
    if len(salt) < _MIN_SALT_BYTES:
        raise ConfigError(f"the salt of events in {path} has {len(salt)} bytes; {_MIN_SALT_BYTES} are needed")
    return salt[:_MAX_SALT_BYTES]
