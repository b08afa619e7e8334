"""The Merkle tree of RFC 6962: hashes, roots, and proofs that an entry is in the log or that a log only grew.

A *node* of height h and index i is the root of the complete subtree over entries [i * 2^h, (i + 1) * 2^h). Hashes are 32 bytes.
Proofs are made as RFC 6962 section 2.1 says and checked as RFC 9162 sections 2.1.3.2 and 2.1.4.2 say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

# The root of a tree without entries.
EMPTY = hashlib.sha256(b"").digest()
# Hashes in a tile; a tile is 8 levels of the tree high.
TILE_HEIGHT = 8
WIDTH = 1 << TILE_HEIGHT

# (height, index) → hash.
Node = Callable[[int, int], bytes]


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root over neighbouring subtrees of equal size, of which the last may be smaller. At least one."""
    row = list(hashes)
    while len(row) > 1:
        pairs = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        row = pairs + row[-1:] if len(row) % 2 else pairs
    return row[0]


class Edge:
    """The right edge of a tree that grows: of each level of tiles the hashes of the tile that is not full yet."""

    def __init__(self, size: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        self.size = size
        self.levels = [list(level) for level in levels]

    def add(self, leaf: bytes) -> Iterator[tuple[int, int, list[bytes]]]:
        """Adds the hash of one entry. Yields the tiles that it fills, each as level, index and hashes."""
        level, new = 0, leaf
        self.size += 1
        while True:
            if level == len(self.levels):
                self.levels.append([])
            tile = self.levels[level]
            tile.append(new)
            if len(tile) < WIDTH:
                return
            yield level, (self.size >> (TILE_HEIGHT * (level + 1))) - 1, tile
            self.levels[level] = []
            level, new = level + 1, fold(tile)

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        below: list[bytes] = []
        for tile in self.levels:
            if row := tile + below:
                below = [fold(row)]
        return below[0] if below else EMPTY


def range_root(start: int, end: int, node: Node) -> bytes:
    """The root over entries [start, end). `start` is a multiple of a power of two that is not smaller than the range."""
    count = end - start
    if count & (count - 1) == 0:
        height = count.bit_length() - 1
        return node(height, start >> height)
    middle = start + _split(count)
    return node_hash(range_root(start, middle, node), range_root(middle, end, node))


def root(size: int, node: Node) -> bytes:
    """The root of the tree of the first `size` entries."""
    return range_root(0, size, node) if size else EMPTY


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Proves that entry `index` is in the tree of `size` entries. Raises ValueError: it is not."""
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not in a tree of {size}")
    proof, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start = middle
    return proof[::-1]


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Proves that the tree of `new` entries begins with that of `old`. Raises ValueError: sizes that can't be."""
    if not 0 < old <= new:
        raise ValueError(f"a tree of {new} entries does not begin with one of {old}")
    proof, start, end, whole = [], 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        proof.append(range_root(start, end, node))
    return proof[::-1]


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether `proof` proves that the hash `leaf` is entry `index` of the tree with the root `expected`."""
    if not 0 <= index < size:
        return False
    found, at, last = leaf, index, size - 1
    for other in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            found = node_hash(other, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, other)
        at, last = at >> 1, last >> 1
    return last == 0 and found == expected


def consistent(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` proves that the tree of `new` entries begins with that of `old`."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        known = EMPTY if old == 0 else new_root
        return not proof and old_root == known
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, other)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)
