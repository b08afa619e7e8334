"""Which signers a reader trusts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.repository.errors import UntrustedError
from headrace.repository.signing import signatures

_REMEDY = "restore what was published, or publish the model anew with `headrace models add`"


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader of a repository requires of models.

    `keys`: public keys (PEM files); a signature by any of them is accepted. `accept_unsigned`: also accept models without a
    signature; then anyone who can write to the repository can remove signatures. A signature that is there must be valid in
    both cases.
    """

    keys: tuple[Path, ...] = ()
    accept_unsigned: bool = False

    def files(self, model: str, version: str, files: Mapping[str, bytes], signature: bytes | None) -> str:
        """Id of the key that signed a version's `files`; empty if they are unsigned and that is accepted.

        Raises RepositoryError.
        """
        if signature is None:
            if self.accept_unsigned:
                return ""
            raise UntrustedError(model, version, "it is not signed", _REMEDY)
        try:
            return signatures.verify(files, signature, [signatures.public_key(path) for path in self.keys])
        except signatures.SignatureError as error:
            problem = f"its signature does not hold: {error}"
            raise UntrustedError(model, version, problem, _REMEDY) from error
