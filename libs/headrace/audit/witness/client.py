"""Asks a witness to sign the log's checkpoints, and for the last one that it signed."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.audit import tree
from headrace.audit.notes import MAX_NOTE, Checkpoint, Note, NoteError, Verifier, opened, with_signatures
from headrace.audit.tiles import CHECKPOINT, TileError, TileFiles
from headrace.audit.witness.decision import RefusedError, Witness, request
from headrace.state import atomic

_TIMEOUT_S = 5.0
_SIZE = re.compile(r"[0-9]{1,19}")
# Where the notes with the witnesses' signatures are kept, beside the tiles.
COSIGNED = "cosigned"


class WitnessError(Exception):
    """A witness did not sign, or can't be asked; the text says why. `refused`: it said no, which is a sign of harm."""

    def __init__(self, name: str, why: str, *, refused: bool = False) -> None:
        super().__init__(f"witness {name}: {why}")
        self.refused = refused


class Asked(Protocol):
    """A witness of one log."""

    @property
    def name(self) -> str: ...

    def submit(self) -> bool:
        """Has the log's checkpoint signed, if that is due; returns whether it was. Raises WitnessError, OSError."""
        ...

    def last(self) -> Checkpoint | None:
        """What was signed last; None: nothing yet. Raises WitnessError."""
        ...


@dataclass(frozen=True, slots=True)
class UnusableWitness:
    """A witness whose key can't be read: it is told as one that is away, and the others are asked."""

    name: str
    why: str

    def submit(self) -> bool:
        raise WitnessError(self.name, self.why)

    def last(self) -> Checkpoint | None:
        raise WitnessError(self.name, self.why)


class Transport(Protocol):
    """The way to a witness. Raises RefusedError, OSError."""

    def add(self, content: bytes) -> bytes: ...

    def last(self, origin: str) -> bytes: ...


# A witness in this process, with its folder on another disk or machine. Its key must be out of reach of the log's owner.
FolderTransport = Witness


@dataclass(frozen=True, slots=True)
class HttpTransport:
    """A witness behind a URL, which ends without a slash."""

    url: str

    def add(self, content: bytes) -> bytes:
        return self._asked(f"{self.url}/add-checkpoint", content)

    def last(self, origin: str) -> bytes:
        return self._asked(f"{self.url}/checkpoint?{urllib.parse.urlencode({'origin': origin})}", None)

    def _asked(self, url: str, content: bytes | None) -> bytes:
        if not url.startswith(("http://", "https://")):
            raise OSError(f"{self.url} is no URL of a witness")
        headers = {"Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(url, content, headers)  # noqa: S310 - checked above
        try:
            with urllib.request.urlopen(asked, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked above
                return bytes(answer.read(MAX_NOTE))
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(1000).decode("utf-8", "replace").strip()
            known = int(text) if error.code == 409 and _SIZE.fullmatch(text) else None
            raise RefusedError(
                error.code, text if known is None else f"it knows {known} entries", known
            ) from None


class WitnessClient:
    """One witness of the log in `folder`. `verifier`: the witness's public key; `log`: the log's."""

    def __init__(
        self, name: str, transport: Transport, verifier: Verifier, folder: Path, log: Verifier
    ) -> None:
        self.name = name
        self._transport = transport
        self._verifier = verifier
        self._folder = folder
        self._log = log

    def submit(self) -> bool:
        """Has the log's checkpoint signed, if it is newer; returns whether it was.

        Raises WitnessError; OSError: the log can't be read.
        """
        content = (self._folder / CHECKPOINT).read_bytes()
        try:
            checkpoint, _ = opened(content, self._log)
            old = self._signed_size()
            if old == checkpoint.size:
                return False
            line = self._added(old, checkpoint, content)
            if not Note.parse(with_signatures(content, [line])).signed_by(self._verifier):
                raise WitnessError(self.name, "its signature does not hold")
        except (NoteError, TileError) as error:
            raise WitnessError(self.name, f"the log is damaged: {error}", refused=True) from error
        self._kept.parent.mkdir(exist_ok=True, mode=0o700)
        atomic.write(self._kept, with_signatures(content, [line]))
        return True

    def last(self) -> Checkpoint | None:
        """What the witness signed last, as it says itself; None: nothing yet. Raises WitnessError."""
        try:
            note = self._asked(lambda: self._transport.last(self._log.name))
            checkpoint, signed = opened(note, self._log)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise WitnessError(self.name, str(error)) from error
        except NoteError as error:
            raise WitnessError(self.name, f"what it keeps does not hold: {error}", refused=True) from error
        if not signed.signed_by(self._verifier):
            raise WitnessError(self.name, "what it keeps is not signed by its key", refused=True)
        return checkpoint

    @property
    def _kept(self) -> Path:
        return self._folder / COSIGNED / self.name

    def _signed_size(self) -> int:
        """Only a guess of what the witness knows; it says so if that is wrong."""
        try:
            return opened(self._kept.read_bytes(), self._log)[0].size
        except (OSError, NoteError):
            return 0

    def _added(self, old: int, checkpoint: Checkpoint, content: bytes) -> str:
        try:
            return self._add(old, checkpoint, content)
        except RefusedError as error:
            if error.known is None or error.known == old:
                raise self._no(error, checkpoint) from error
            known = error.known
        if known > checkpoint.size:
            why = f"it signed {known} entries and the log has {checkpoint.size}: it was truncated or put back"
            raise WitnessError(self.name, why, refused=True)
        try:
            return self._add(known, checkpoint, content)
        except RefusedError as error:
            raise self._no(error, checkpoint) from error

    def _add(self, old: int, checkpoint: Checkpoint, content: bytes) -> str:
        """Raises RefusedError, WitnessError: it can't be asked."""
        tiles = TileFiles(self._folder, checkpoint.size)
        proof = tree.consistency_proof(old, checkpoint.size, tiles.node) if 0 < old < checkpoint.size else []
        asked = request(old, proof, content)
        return self._asked(lambda: self._transport.add(asked)).decode("utf-8", "replace")

    def _no(self, error: RefusedError, checkpoint: Checkpoint) -> WitnessError:
        anew = f"it signed another checkpoint of {checkpoint.size} entries: the log was written anew"
        why = anew if error.known == checkpoint.size else str(error)
        return WitnessError(self.name, why, refused=error.status < 500)

    def _asked(self, ask: Callable[[], bytes]) -> bytes:
        try:
            return ask()
        except OSError as error:
            raise WitnessError(self.name, f"can't be asked ({error.strerror or error})") from error
