"""Timestamps (RFC 3161): an authority signs when a checkpoint was there. It keeps nothing, so copy what is kept here elsewhere.

Of each day the last one is kept, in two files that others can check without headrace:

    openssl ts -verify -data DAY-SIZE.checkpoint -in DAY-SIZE.tsr -CAfile ROOTS.pem
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from headrace.audit import tree
from headrace.audit.notes import Checkpoint, NoteError, Verifier, opened
from headrace.audit.tiles import CHECKPOINT, TileError, TileFiles
from headrace.audit.witness.client import WitnessError
from headrace.state import atomic

_TIMEOUT_S = 10.0
# A token with the certificates of its authority has about 6 KiB.
_MAX_ANSWER = 256 << 10
# Where the timestamps are kept, beside the tiles.
TIMESTAMPS = "timestamps"


class _NoTimestampError(Exception):
    """An answer is no timestamp of what was asked; the text says why."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A timestamp that is kept: the name of its files without their endings, and the day and size that it says."""

    name: str
    day: str
    size: int


class TimestampClient:
    """One authority, asked at `url` once in `every_s` seconds at most. `roots`: PEM file with its root certificates, and any
    between. `log`: the log's public key; `wall`: seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        url: str,
        roots: Path,
        folder: Path,
        log: Verifier,
        every_s: float,
        wall: Callable[[], float],
    ) -> None:
        self.name = name
        self._url = url
        self._roots = roots
        self._folder = folder
        self._log = log
        self._every_s = every_s
        self._wall = wall
        self._kept = folder / TIMESTAMPS / name

    def submit(self) -> bool:
        """Has the log's checkpoint stamped, if it is newer and the last one is old enough; returns whether it was.

        Raises WitnessError: `refused` if the log does not go on from the last one; OSError: the log can't be read.
        """
        content = (self._folder / CHECKPOINT).read_bytes()
        try:
            checkpoint, _ = opened(content, self._log)
        except NoteError as error:
            raise WitnessError(self.name, f"the log is damaged: {error}", refused=True) from error
        if (newest := self._newest()) is not None:
            age_s = self._wall() - self._check(newest, checkpoint).timestamp()
            if newest.size == checkpoint.size or 0 <= age_s < self._every_s:
                return False
        self._keep(content, self._stamped(content), checkpoint.size)
        return True

    def last(self) -> Checkpoint | None:
        """The checkpoint of the newest timestamp that is kept; None: there is none. Raises WitnessError: it does not hold."""
        newest = self._newest()
        return None if newest is None else self._read(newest)[0]

    def time(self) -> datetime | None:
        """When the newest timestamp was made, as its authority says. Raises WitnessError: it does not hold."""
        newest = self._newest()
        return None if newest is None else self._read(newest)[1]

    def _check(self, newest: _Kept, checkpoint: Checkpoint) -> datetime:
        """When the last one was made. Raises WitnessError: it does not hold, or the log does not begin with what it stamped."""
        before, made = self._read(newest)
        if before.size > checkpoint.size:
            why = f"it stamped {before.size} entries and the log has {checkpoint.size}: it was truncated or put back"
            raise WitnessError(self.name, why, refused=True)
        try:
            root = tree.root(before.size, TileFiles(self._folder, checkpoint.size).node)
        except TileError as error:
            raise WitnessError(self.name, f"the log is damaged: {error}", refused=True) from error
        if root != before.root:
            why = f"the first {before.size} entries are not those that it stamped: the log was written anew"
            raise WitnessError(self.name, why, refused=True)
        return made

    def _read(self, kept: _Kept) -> tuple[Checkpoint, datetime]:
        try:
            content = (self._kept / f"{kept.name}.checkpoint").read_bytes()
            token = (self._kept / f"{kept.name}.tsr").read_bytes()
            checkpoint, _ = opened(content, self._log)
            made = self._verified(token, content, None)
        except OSError as error:
            raise WitnessError(self.name, f"what is kept can't be read ({error.strerror})") from error
        except (NoteError, _NoTimestampError) as error:
            why = (
                f"{self._kept / kept.name}.tsr does not hold: {error}; put it aside as evidence (another authority: "
                "give the witness another name)"
            )
            raise WitnessError(self.name, why, refused=True) from error
        return checkpoint, made

    def _stamped(self, content: bytes) -> bytes:
        """A timestamp of it. Raises WitnessError."""
        # Late: it is needed only where an authority is set.
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        asked = TimestampRequestBuilder().data(content).hash_algorithm(HashAlgorithm.SHA256).build()
        try:
            token = self._asked(asked.as_bytes())
            self._verified(token, content, asked.nonce)
        except _NoTimestampError as error:
            raise WitnessError(self.name, f"its answer is no timestamp of this log: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or error
            raise WitnessError(self.name, f"can't be asked ({why})") from error
        return token

    def _asked(self, content: bytes) -> bytes:
        headers = {"Content-Type": "application/timestamp-query"}
        asked = urllib.request.Request(self._url, content, headers)  # noqa: S310 - its settings allow http and https alone
        try:
            with urllib.request.urlopen(asked, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
                found = bytes(answer.read(_MAX_ANSWER + 1))
        except urllib.error.HTTPError as error:
            with error:
                raise _NoTimestampError(f"HTTP status {error.code}") from None
        if len(found) > _MAX_ANSWER:
            raise _NoTimestampError(f"it has more than {_MAX_ANSWER} bytes")
        return found

    def _verified(self, token: bytes, content: bytes, nonce: int | None) -> datetime:
        """When `content` was stamped. Raises _NoTimestampError; OSError: the roots can't be read."""
        from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

        try:
            roots = x509.load_pem_x509_certificates(self._roots.read_bytes())
        except ValueError as error:
            raise OSError(0, f"{self._roots} holds no certificates") from error
        verifier = VerifierBuilder(nonce=nonce, roots=roots).build()
        try:
            answer = decode_timestamp_response(token)
            if answer.status > 1:
                raise _NoTimestampError(f"the authority refused, status {answer.status}")
            verifier.verify_message(answer, content)
        except (VerificationError, ValueError) as error:
            raise _NoTimestampError(str(error)) from error
        return answer.tst_info.gen_time

    def _newest(self) -> _Kept | None:
        return max(self._all(), key=lambda kept: (kept.day, kept.size), default=None)

    def _all(self) -> Sequence[_Kept]:
        """Those of which both files are there: a checkpoint's is written last."""
        found = []
        for path in self._kept.glob("*.checkpoint"):
            day, _, size = path.stem.partition("-")
            if day.isdecimal() and size.isdecimal() and path.with_suffix(".tsr").exists():
                found.append(_Kept(path.stem, day, int(size)))
        return found

    def _keep(self, content: bytes, token: bytes, size: int) -> None:
        day = f"{datetime.fromtimestamp(self._wall(), UTC):%Y%m%d}"
        self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = [kept for kept in self._all() if kept.day == day and kept.size != size]
        atomic.write(self._kept / f"{day}-{size}.tsr", token)
        atomic.write(self._kept / f"{day}-{size}.checkpoint", content)
        for kept in before:
            for suffix in (".checkpoint", ".tsr"):
                with suppress(OSError):
                    (self._kept / f"{kept.name}{suffix}").unlink()
