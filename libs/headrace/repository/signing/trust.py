"""Which signers a reader trusts, and which list of versions it saw last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headrace.repository.errors import AbsentError, RepositoryError, UntrustedError
from headrace.repository.signing import signatures
from headrace.repository.version_list import VERSION_LIST, VersionList
from headrace.state import atomic, plain_files

_REMEDY = "restore what was published, or publish the model anew with `headrace models add`"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader of a repository requires of models.

    `keys`: public keys (PEM files); a signature by any of them is accepted. `accept_unsigned`: also accept models without a
    signature; then anyone who can write to the repository can remove signatures. A signature that is there must be valid in
    both cases. `memory`: a file of the reader, outside the repository, with the serial of the last list of versions seen of
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

    def version_list(self, listing: VersionList, signature: bytes | None) -> None:
        """Raises RepositoryError if the list of versions is not trusted, or older than one seen before."""
        self._verified(listing.model, "", {VERSION_LIST: listing.content()}, signature, VERSION_LIST)
        if self.memory is None:
            return
        seen = _remembered(self.memory)
        known = seen.get(listing.model, 0)
        if listing.serial < known:
            raise UntrustedError(
                listing.model,
                "",
                f"{VERSION_LIST} is an old one put back: change {listing.serial}, seen was {known}",
                f"restore the newest; if it was put back on purpose, remove the model from {self.memory}",
            )
        if listing.serial > known:
            # On a full disk the older serial stays: that is no reason to refuse a signed model.
            with suppress(OSError):
                self.memory.parent.mkdir(parents=True, exist_ok=True)
                atomic.write(self.memory, json.dumps({**seen, listing.model: listing.serial}).encode())

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


def listed(listing: VersionList, version: str, metadata: bytes) -> None:
    """Raises RepositoryError unless the list has this version with exactly these bytes of metadata."""
    wanted = listing.versions.get(version)
    if wanted is None:
        there = ", ".join(listing.ordered()) or "none"
        problem = f"{VERSION_LIST} does not list it (it lists: {there})"
        raise AbsentError(listing.model, version, problem, "it was removed, or never published; name another")
    if wanted != hashlib.sha256(metadata).hexdigest():
        problem = f"metadata.json is not the one that {VERSION_LIST} lists"
        raise UntrustedError(listing.model, version, problem, _REMEDY)


def _remembered(path: Path) -> dict[str, int]:
    try:
        seen = json.loads(plain_files.read(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(path, error) from error
    if not isinstance(seen, dict) or not all(type(v) is int for v in seen.values()):
        raise _unusable(path, ValueError("not numbers by model"))
    return seen


def _unusable(path: Path, error: Exception) -> RepositoryError:
    problem = f"the memory of version lists {path} can't be read ({error})"
    return RepositoryError(
        "", "", problem, "restore or remove the file; without it an old list is not told from a new one"
    )
