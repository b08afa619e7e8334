"""The keys that a home's files are sealed with, in backups: left out unless asked for, and needed to restore."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from headrace.cli.installation import layout as layouts
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.encryption import EncryptionSettings, KeysAwayError
from headrace.encryption.settings import kms_of
from headrace.hop import config
from headrace.state import atomic

# Name of the file of keys in a backup. In a home there is none of that name.
NAME = "encryption.keys"


class KeysError(Exception):
    """The text says what is wrong with the keys, and what to do."""


def to_add(layout: Layout, *, wanted: bool) -> Path | None:
    """The file of keys to put into a backup. Raises KeysError: it can't be had."""
    settings = _settings(layout)
    if not wanted:
        return None
    if settings is None:
        raise KeysError("nothing is sealed here, so there are no keys to back up; leave --with-keys out")
    if settings.file is None:
        raise KeysError("the keys are on a token, which gives none out; back that up by its maker's means")
    try:
        kms_of(settings).current()
    except KeysAwayError as error:
        raise KeysError(str(error)) from error
    return settings.file


def said(layout: Layout, *, inside: bool) -> str:
    """What a person who made a backup must know of the keys; empty: nothing is sealed. Raises KeysError."""
    settings = _settings(layout)
    if settings is None:
        return ""
    if inside:
        return "the keys are IN this file: whoever has it reads all that is sealed; keep it as you keep keys"
    if settings.file is None:
        return "what is sealed needs the token, which is not in this file"
    return f"the keys are NOT in this file, and without them it can't be restored: keep a copy of {settings.file} elsewhere"


def settle(restored: Path, home: Path, keys: Path | None) -> str:
    """Puts the keys of a restored home, which is still at `restored`, where it looks for them: in `keys`, or where they were.

    Returns what to tell a person. Raises KeysError: they are not here, or don't open what is sealed; OSError.
    """
    there = layouts.of(restored)
    settings, inside = _settings(there), restored / NAME
    if settings is None:
        if keys is not None:
            raise KeysError("nothing in this backup is sealed; leave --keys out")
        return ""
    if keys is not None:
        settings = EncryptionSettings(
            file=keys.absolute(), renew_s=settings.renew_s, max_age_s=settings.max_age_s
        )
        encryption_place.write(there, settings)
    said = f"sealed files are opened with the keys in {settings.file}"
    made: Path | None = None
    if inside.exists():
        if settings.file is not None and not settings.file.exists():
            made = _placed(inside, settings.file, home)
            said = f"the keys of this backup are in {settings.file} now"
        inside.unlink()
    try:
        known = _check(settings, there)
    except BaseException:
        if made is not None:
            made.unlink(missing_ok=True)
        raise
    if keys is not None:
        name, _, _ = known[-1].rpartition("/")
        encryption_place.write(there, settings.model_copy(update={"name": name}))
    return said


def _placed(inside: Path, target: Path, home: Path) -> Path:
    if target.is_relative_to(home.absolute()):
        raise KeysError(f"{target} is in the home; name a file elsewhere: --keys FILE")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write(target, inside.read_bytes(), mode=0o600)
    return target


def _check(settings: EncryptionSettings, layout: Layout) -> list[str]:
    """The versions that are here. Raises KeysError: they are not all that are needed."""
    try:
        known = kms_of(settings).versions()
    except KeysAwayError as error:
        raise KeysError(
            f"this backup is sealed, and its keys are not here: {error}; put the file of keys there, or: --keys FILE"
        ) from error
    if missing := _needed(layout) - set(known):
        raise KeysError(
            f"this backup needs the keys {_listed(missing)}, and only {_listed(known)} are here; restore with the file of keys"
            " that has them: --keys FILE"
        )
    return known


def _needed(layout: Layout) -> set[str]:
    found: set[str] = set()
    for store in encryption_place.stores(layout):
        for path in store.files():
            found |= store.look(path).versions
    return found


def _settings(layout: Layout) -> EncryptionSettings | None:
    try:
        return encryption_place.settings(layout)
    except config.ConfigError as error:
        raise KeysError(str(error)) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
