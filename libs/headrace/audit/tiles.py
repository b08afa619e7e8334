"""The files of a log in the layout of C2SP tlog-tiles: hash tiles, bundles of entries and the checkpoint.

`tile/L/N` holds the 256 hashes of height 8 L with index 256 N and on, `tile/entries/N` the 256 entries from 256 N, each behind
its length (2 bytes, big endian). A tile that is not full has `.p/W` behind its name, W its width (1 to 255). N is written in
groups of three digits, all but the last behind an `x`: 1234067 is `x001/x234/067`.
Source: https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from headrace.audit.tree import TILE_HEIGHT, WIDTH, fold

# An entry's length has two bytes.
MAX_ENTRY = 65_535
CHECKPOINT = "checkpoint"
_HASH = 32
_LENGTH = 2
# Tiles that a reader of proofs remembers, 8 KiB each.
_REMEMBERED = 256


class TileError(Exception):
    """A tile or bundle is not there, or is none; the text names its file."""


def tile_path(level: int | None, index: int, width: int = WIDTH) -> str:
    """The path of a tile, `level` None: of a bundle of entries. `width`: how many hashes or entries it has."""
    groups = [f"{index % 1000:03d}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03d}")
    path = f"tile/{'entries' if level is None else level}/{'/'.join(reversed(groups))}"
    return path if width == WIDTH else f"{path}.p/{width}"


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The content of a bundle. Raises ValueError: an entry is too long."""
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise ValueError(f"an entry has more than {MAX_ENTRY} bytes")
    return b"".join(len(entry).to_bytes(_LENGTH, "big") + entry for entry in entries)


def decode_bundle(content: bytes, name: str) -> list[bytes]:
    """The entries of a bundle. Raises TileError that names it."""
    entries, at = [], 0
    while at < len(content):
        start = at + _LENGTH
        at = start + int.from_bytes(content[at:start], "big")
        if start > len(content) or at > len(content):
            raise TileError(f"{name} ends within an entry")
        entries.append(content[start:at])
    return entries


class TileFiles:
    """Reads the tiles of a log of `size` entries in `folder`."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self._hashes = lru_cache(_REMEMBERED)(self.hashes)

    def width(self, level: int | None, index: int) -> int:
        """How many hashes or entries a tile has at this size; 0: there is none."""
        count = self.size >> (TILE_HEIGHT * (level or 0))
        return max(min(count - index * WIDTH, WIDTH), 0)

    def hashes(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile. Raises TileError."""
        width = self.width(level, index)
        content = self._content(level, index, width)
        if len(content) % _HASH or len(content) < width * _HASH:
            raise TileError(f"{tile_path(level, index, width)} has {len(content)} bytes, not {width * _HASH}")
        return [content[i * _HASH : (i + 1) * _HASH] for i in range(width)]

    def bundle(self, index: int) -> list[bytes]:
        """The entries of a bundle. Raises TileError."""
        width = self.width(None, index)
        name = tile_path(None, index, width)
        entries = decode_bundle(self._content(None, index, width), name)
        if len(entries) < width:
            raise TileError(f"{name} has {len(entries)} entries, not {width}")
        return entries[:width]

    def entry(self, index: int) -> bytes:
        """One entry. Raises TileError."""
        return self.bundle(index // WIDTH)[index % WIDTH]

    def node(self, height: int, index: int) -> bytes:
        """See tree.Node. Raises TileError."""
        level, above = divmod(height, TILE_HEIGHT)
        first = index << above
        tile = self._hashes(level, first // WIDTH)
        within = first % WIDTH
        found = tile[within : within + (1 << above)]
        if len(found) < 1 << above:
            raise TileError(f"{tile_path(level, first // WIDTH)} does not reach that far")
        return fold(found)

    def _content(self, level: int | None, index: int, width: int) -> bytes:
        """Of the tile of this width, or else of the full one: logs may remove the others once that is there."""
        name = tile_path(level, index, width)
        try:
            return _read(self.folder / name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TileError(f"{name} can't be read ({error.strerror})") from error
        try:
            return _read(self.folder / tile_path(level, index))
        except OSError:
            raise TileError(f"{name} is not there") from None


def _read(path: Path) -> bytes:
    return path.read_bytes()
