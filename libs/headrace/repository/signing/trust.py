"""Which signers a reader trusts, and which list of releases it saw last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.repository.errors import AbsentError, RepositoryError, UntrustedError
from headrace.repository.releases import RELEASES, Releases
from headrace.repository.signing import signatures
from headrace.state import atomic

_REMEDY = "restore what was published, or publish the model anew with `headrace models add`"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader of a repository requires of models.

    `keys`: public keys (PEM files); a signature by any of them is accepted. `accept_unsigned`: also accept models without a
    signature; then anyone who can write to the repository can remove signatures. A signature that is there must be valid in
    both cases. `memory`: a file of the reader, outside the repository, with the serial of the last list of releases seen of
    each model; an older list (a rollback of the whole folder) is refused.
    """

    keys: tuple[Path, ...] = ()
    accept_unsigned: bool = False
    memory: Path | None = None

    def files(self, model: str, version: str, files: Mapping[str, bytes], signature: bytes | None) -> str:
        """Id of the key that signed a version's `files`; empty if they are unsigned and that is accepted.

        Raises RepositoryError.
        """
        return self._verified(model, version, files, signature, "it")

    def releases(self, releases: Releases, signature: bytes | None) -> None:
        """Raises RepositoryError if the list of releases is not trusted, or older than one seen before."""
        self._verified(releases.model, "", {RELEASES: releases.content()}, signature, RELEASES)
        if self.memory is None:
            return
        seen = _remembered(self.memory)
        known = seen.get(releases.model, 0)
        if releases.serial < known:
            raise UntrustedError(
                releases.model,
                "",
                f"{RELEASES} is an old one put back: change {releases.serial}, seen was {known}",
                f"restore the newest; if it was put back on purpose, remove the model from {self.memory}",
            )
        if releases.serial > known:
            # On a full disk the older serial stays: that is no reason to refuse a signed model.
            with suppress(OSError):
                self.memory.parent.mkdir(parents=True, exist_ok=True)
                atomic.write(self.memory, json.dumps({**seen, releases.model: releases.serial}).encode())

    def _verified(
        self, model: str, version: str, files: Mapping[str, bytes], signature: bytes | None, what: str
    ) -> str:
        if signature is None:
            if self.accept_unsigned:
                return ""
            raise UntrustedError(model, version, f"{what} is not signed", _REMEDY)
        try:
            return signatures.verify(files, signature, [signatures.public_key(path) for path in self.keys])
        except signatures.SignatureError as error:
            problem = f"the signature of {what} does not hold: {error}"
            raise UntrustedError(model, version, problem, _REMEDY) from error


def listed(releases: Releases, version: str, metadata: bytes) -> None:
    """Raises RepositoryError unless the list has this version with exactly these bytes of metadata."""
    wanted = releases.versions.get(version)
    if wanted is None:
        there = ", ".join(releases.ordered()) or "none"
        problem = f"{RELEASES} does not list it (it lists: {there})"
        raise AbsentError(
            releases.model, version, problem, "it was removed, or never published; name another"
        )
    if wanted != hashlib.sha256(metadata).hexdigest():
        problem = f"metadata.json is not the one that {RELEASES} lists"
        raise UntrustedError(releases.model, version, problem, _REMEDY)


def _remembered(path: Path) -> dict[str, int]:
    try:
        seen = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from error
    if not isinstance(seen, dict) or not all(type(v) is int for v in seen.values()):
        raise _unusable(path, ValueError("not numbers by model"))
    return seen


def _unusable(path: Path, error: Exception) -> RepositoryError:
    problem = f"the memory of releases {path} can't be read ({error})"
    return RepositoryError(
        "", "", problem, "restore or remove the file; without it an old release is not told from a new one"
    )
