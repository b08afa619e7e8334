"""The keys and the sealed files of a home, for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.audit import AccessError
from headrace.audit.access import Access, Act
from headrace.audit.contents import ACTS
from headrace.audit.settings import utc_now
from headrace.cli.commands.audit.place import reads_as
from headrace.cli.console import command, fail
from headrace.cli.installation.encryption import encryption_place
from headrace.cli.installation.layout import Layout
from headrace.encryption import EncryptionSettings, KeysAwayError, Sealer, Store, sealer_of
from headrace.encryption.census import Census, Tally
from headrace.hop.config import ConfigError


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens and seals in a home, and where the keys are."""

    settings: EncryptionSettings
    sealer: Sealer
    stores: tuple[Store, ...]

    @property
    def where(self) -> str:
        """As people say it."""
        token = self.settings.pkcs11
        return f"token {token.token}" if token is not None else str(self.settings.file)

    def counted(self) -> tuple[list[str], dict[str, Tally]]:
        """The versions that are here, and `tallies`; also if they are rotated meanwhile. Raises KeysAwayError, OSError."""
        kms, census = self.sealer.keys.kms, Census()
        tallies = {store.name: census.counted(store, kms.versions) for store in self.stores}
        # Asked last, so that none is missing that a file needs which was sealed meanwhile.
        return kms.versions(), tallies

    def tallies(self, known: list[str]) -> dict[str, Tally]:
        """By name of the store. Raises OSError."""
        census = Census()
        return {store.name: census.tally(store, known) for store in self.stores}


def keys_of(layout: Layout) -> Keys:
    """Ends the command if nothing is sealed here, or the settings are wrong."""
    try:
        settings = encryption_place.settings(layout)
        sealer = sealer_of(settings)
        if settings is None or sealer is None:
            fail(
                f"nothing is sealed in {layout.home}; to begin: {command()} down, then {command()} up --encrypt"
            )
        return Keys(settings, sealer, encryption_place.stores(layout))
    except ConfigError as error:
        fail(str(error))


@contextmanager
def away_told() -> Iterator[None]:
    """Ends the command with a sentence while the keys can't be used."""
    try:
        yield
    except KeysAwayError as error:
        fail(str(error))


def record(layout: Layout, act: Act, **about: str) -> None:
    """Records it in the audit before it is done. Ends the command if it can't be."""
    if not layout.audit_key.exists():
        return
    try:
        Access(layout.audit / f"{ACTS}.jsonl", utc_now).record(act, reads_as("headrace encryption"), **about)
    except AccessError as error:
        fail(str(error))
