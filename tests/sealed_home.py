"""HOME with encryption at rest, for a while: what it had is put aside and back, for later tests must open all that is there."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.cli.installation import layout
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.supervision import daemon
from headrace.encryption import EncryptionSettings
from headrace.encryption.kms.file_kms import make
from tests.system import HOME, headrace, prepared

PLACE = layout.of(HOME)
_SEALED = (PLACE.audit, PLACE.audit_key, PLACE.audit_public_key, PLACE.journal, PLACE.events)
_ASIDE = HOME / "aside"


@contextmanager
def sealed_home(settings: EncryptionSettings) -> Iterator[None]:
    """The next system that is started in HOME seals. Nothing may run there when the context is left."""
    prepared()
    _put_back()  # what a run left that was killed
    _ASIDE.mkdir()
    for path in _SEALED:
        if path.exists():
            path.rename(_ASIDE / path.name)
    encryption_place.write(PLACE, settings)
    try:
        yield
    finally:
        daemon.stop(PLACE)
        _put_back()


def new_keys(folder: Path, **more: float) -> EncryptionSettings:
    """A file of keys and its settings, as `headrace up --encrypt` makes them. `more`: times of data keys."""
    name = f"headrace-{secrets.token_hex(4)}"
    make(folder / "home.keys", name)
    return EncryptionSettings.model_validate({"file": folder / "home.keys", "name": name, **more})


def status() -> dict[str, Any]:
    """What `headrace encryption status --json` says; AssertionError if files can't be opened or the keys are away."""
    told: dict[str, Any] = json.loads(headrace("encryption", "status", "--json"))
    return told


def written_plain(marker: bytes = b"") -> list[str]:
    """Files that should be sealed and hold something plain, or the marker."""
    found: list[str] = []
    for store in encryption_place.stores(PLACE):
        for path in store.files():
            try:
                if store.look(path).plain or (marker and marker in path.read_bytes()):
                    found.append(str(path))
            except FileNotFoundError:  # closed or collected meanwhile
                continue
    return found


def _put_back() -> None:
    PLACE.override("encryption").unlink(missing_ok=True)
    if not _ASIDE.exists():
        return
    for path in _SEALED:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if (kept := _ASIDE / path.name).exists():
            kept.rename(path)
    _ASIDE.rmdir()
