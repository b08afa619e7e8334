"""Checks a whole log: each byte of it, that it only grew, and that it agrees with the journals it was made of.

One pass over the entries, about 5 µs each. All that is found is told, not only the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.audit.contents import Contents, Finding
from headrace.audit.journals import Journal
from headrace.audit.notes import Checkpoint, NoteError, Verifier, opened
from headrace.audit.persons.payloads import Payloads
from headrace.audit.tiles import CHECKPOINT, TileError, TileFiles, decode_bundle, encode_bundle, tile_path
from headrace.audit.tree import WIDTH, Edge, leaf_hash
from headrace.audit.writer import is_written

# (entries that were checked, entries in all).
Progress = Callable[[int, int], None]
# Findings that are told; a log that is gone has one for each bundle.
_TOLD = 1_000


@dataclass(slots=True)
class Report:
    """What was found. `size` and `root`: of the checkpoint; `uncovered`: entries on the disk after it.

    `notes`: what a reader should know, and what is no sign of tampering. `torn`: lines of which a power loss
    left a part.
    """

    size: int = 0
    root: bytes = b""
    uncovered: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    torn: list[Finding] = field(default_factory=list)
    records: Mapping[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.findings


def verify(
    folder: Path,
    verifier: Verifier,
    *,
    journals: Sequence[Journal] = (),
    payloads: Payloads | None = None,
    witnessed: Mapping[str, Checkpoint] | None = None,
    progress: Progress = lambda done, size: None,  # noqa: ARG005 - nobody looks
) -> Report:
    """Checks the log in `folder`.

    `witnessed`: by name of the witness, the last checkpoint that it saw, as the witness itself says it.
    """
    report, witnessed = Report(), witnessed or {}
    checkpoint = _checkpoint(folder, verifier, report)
    if checkpoint is None:
        if not witnessed:
            return report
        checkpoint = Checkpoint(verifier.name, 0, Edge().root())
    report.size, report.root = checkpoint.size, checkpoint.root
    contents = Contents(journals, payloads)
    _Pass(folder, checkpoint, witnessed, contents, report, progress).run()
    report.findings += contents.findings()
    report.torn = contents.torn
    report.records = contents.counts
    report.notes += contents.notes
    if not witnessed:
        report.notes.append(
            "no witness was asked: an older state that was put back whole, or a log signed anew, is not noticed"
        )
    if len(report.findings) > _TOLD:
        more = len(report.findings) - _TOLD
        report.findings = [*report.findings[:_TOLD], Finding("more", f"{more} more findings")]
    return report


def _checkpoint(folder: Path, verifier: Verifier, report: Report) -> Checkpoint | None:
    try:
        return opened((folder / CHECKPOINT).read_bytes(), verifier)[0]
    except OSError as error:
        report.findings.append(Finding("checkpoint", f"it can't be read ({error.strerror})"))
    except NoteError as error:
        report.findings.append(Finding("checkpoint", f"it is forged or altered: {error}"))
    return None


class _Pass:
    """One pass over the entries up to a checkpoint."""

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        witnessed: Mapping[str, Checkpoint],
        contents: Contents,
        report: Report,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._tiles = TileFiles(folder, checkpoint.size)
        self._witnessed = witnessed
        self._contents = contents
        self._report = report
        self._progress = progress
        self._edge = Edge()
        self._seen: dict[int, list[tuple[str, Checkpoint]]] = {}
        for name, seen in witnessed.items():
            self._seen.setdefault(seen.size, []).append((name, seen))

    def run(self) -> None:
        """Adds to the report what is wrong."""
        size = self._checkpoint.size
        self._compare_witnesses()
        for index in range(-(-size // WIDTH)):
            self._bundle(index)
            self._progress(min((index + 1) * WIDTH, size), size)
        if self._edge.size == size:
            self._right_edge()
            if self._edge.root() != self._checkpoint.root:
                self._found(
                    "root",
                    "the entries are not those of the checkpoint: some were altered, removed, added or moved",
                )
        for seen_size, seen in self._seen.items():
            if seen_size > size:
                for name, _ in seen:
                    self._found(
                        f"witness {name}", f"it saw {seen_size} entries; the log has {size}: it was truncated"
                    )
        self._after()

    def _bundle(self, index: int) -> None:
        """The entries of a bundle, against the hashes in their tile."""
        expected = self._read_tile(0, index)
        try:
            entries = self._tiles.bundle(index)
        except TileError as error:
            self._found(f"entries from {index * WIDTH}", f"they were removed, or can't be read: {error}")
            # With the hashes, the others can still be checked.
            self._contents.skip()
            self._add(expected or [])
            return
        self._compare_partial(None, index, entries)
        hashes = [leaf_hash(entry) for entry in entries]
        for number, (made, said) in enumerate(zip(hashes, expected or hashes, strict=True), index * WIDTH):
            if made != said:
                self._found(
                    f"entry {number} ({tile_path(None, index, len(entries))})",
                    "it is not the one whose hash is in the tile: altered, added, removed or moved",
                )
        self._contents.take(index * WIDTH, entries)
        # The tree is that of the tiles, so that one altered entry is one finding.
        self._add(expected or hashes)

    def _add(self, hashes: Sequence[bytes]) -> None:
        for leaf in hashes:
            for level, index, full in self._edge.add(leaf):
                if level and (said := self._read_tile(level, index)) is not None and said != full:
                    self._found(tile_path(level, index), "its hashes are not those of the tiles below")
            if self._edge.size in self._seen:
                self._compare_witnesses()

    def _compare_witnesses(self) -> None:
        for name, seen in self._seen.get(self._edge.size, ()):
            if seen.root != self._edge.root():
                self._found(
                    f"witness {name}",
                    f"of the first {seen.size} entries it saw others: the log was written anew",
                )

    def _right_edge(self) -> None:
        for level, hashes in enumerate(self._edge.levels):
            index = len(hashes) and self._edge.size >> (8 * (level + 1))
            if level and hashes and (said := self._read_tile(level, index)) is not None and said != hashes:
                self._found(
                    tile_path(level, index, len(hashes)), "its hashes are not those of the tiles below"
                )

    def _read_tile(self, level: int, index: int) -> list[bytes] | None:
        try:
            hashes = self._tiles.hashes(level, index)
        except TileError as error:
            self._found(tile_path(level, index, self._tiles.width(level, index) or 1), str(error))
            return None
        self._compare_partial(level, index, hashes)
        return hashes

    def _compare_partial(self, level: int | None, index: int, items: Sequence[bytes]) -> None:
        """Partial tiles of older checkpoints, which readers of those still need, must be the start of the present one."""
        folder = (self._folder / tile_path(level, index, 1)).parent
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            width = int(file.name) if file.name.isdecimal() else 0
            if 0 < width <= len(items):
                said = encode_bundle(items[:width]) if level is None else b"".join(items[:width])
                if file.read_bytes() != said:
                    self._found(
                        tile_path(level, index, width), "it is not the start of what came later: altered"
                    )

    def _after(self) -> None:
        """Entries after the checkpoint: of a writer that is at work or was killed, or added by somebody else."""
        size = self._checkpoint.size
        index, within = divmod(size, WIDTH)
        beyond = 0
        while found := _widest(self._folder, index):
            beyond += max(found - within, 0)
            index, within = index + 1, 0
        self._report.uncovered = beyond
        if beyond and not is_written(self._folder):
            text = f"{beyond} after the checkpoint, and nobody writes the log: added, or left by a writer that was killed"
            self._found("entries", text)

    def _found(self, where: str, text: str) -> None:
        self._report.findings.append(Finding(where, text))


def _widest(folder: Path, index: int) -> int:
    """How many entries of a bundle are on the disk."""
    full = folder / tile_path(None, index)
    partial = (folder / tile_path(None, index, 1)).parent
    widths = [int(p.name) for p in partial.glob("[0-9]*") if p.name.isdecimal()]
    if not full.exists():
        return max(widths, default=0)
    try:
        return len(decode_bundle(full.read_bytes(), full.name))
    except TileError:
        return WIDTH
